package interop;

import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.Random;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;

import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.common.message.Message;

/**
 * How fast a broker is for the unmodified client. Arguments: the name server, seconds to warm up, seconds of each
 * measurement. Prints lines "case value".
 */
public final class Load {
    private static final int BODY = 1024;
    private static final int QUEUES = 8;
    private static final int OUTSTANDING = 256;
    private static final int PACE = 5000;

    private final DefaultMQProducer producer;
    private final AtomicLong failed = new AtomicLong();
    private final AtomicLong notOk = new AtomicLong();

    private Load(DefaultMQProducer producer) {
        this.producer = producer;
    }

    public static void main(String[] args) throws Exception {
        Kit.namesrv = args[0];
        double warm = Double.parseDouble(args[1]);
        double seconds = Double.parseDouble(args[2]);
        System.setProperty("rocketmq.client.rebalance.waitInterval", "1000");
        DefaultMQProducer p = Kit.producer();
        p.setRetryTimesWhenSendAsyncFailed(0);
        Load load = new Load(p);
        // Both ways of sending, and a listener: what is measured is compiled by then, here and there.
        String topic = load.newTopic("warm");
        load.sync(topic, 16, warm / 2);
        load.async(topic, warm / 4);
        load.latency("warm", warm / 4);
        for (int threads : new int[] {1, 16, 128}) {
            report("sync-" + threads, load.sync(load.newTopic("sync"), threads, seconds));
        }
        report("async-" + OUTSTANDING, load.async(load.newTopic("async"), seconds));
        long[] times = load.latency("push", seconds);
        report("push-p50-us", times[times.length / 2] / 1e3);
        report("push-p99-us", times[(int) (times.length * 0.99)] / 1e3);
        report("failed", load.failed.get());
        report("not-send-ok", load.notOk.get());
        // The client's threads are not all daemons.
        System.exit(0);
    }

    private static void report(String name, double value) {
        System.out.printf(java.util.Locale.ROOT, "RESULT %s %.1f%n", name, value);
        System.out.flush();
    }

    private String newTopic(String hint) throws Exception {
        String topic = Kit.topic(hint);
        Kit.makeTopic(producer, topic, QUEUES);
        return topic;
    }

    private static byte[] body() {
        byte[] body = new byte[BODY];
        new Random(1).nextBytes(body);
        return body;
    }

    private void count(SendResult r, AtomicLong sent) {
        if (r.getSendStatus() == SendStatus.SEND_OK) {
            sent.incrementAndGet();
        } else {
            notOk.incrementAndGet();
        }
    }

    /** So many threads, each waits for the answer to its send. Returns sends a second. */
    private double sync(String topic, int threads, double seconds) throws Exception {
        AtomicLong sent = new AtomicLong();
        CountDownLatch done = new CountDownLatch(threads);
        byte[] body = body();
        long t0 = System.nanoTime();
        long end = t0 + (long) (seconds * 1e9);
        for (int i = 0; i < threads; i++) {
            new Thread(() -> {
                while (System.nanoTime() < end) {
                    try {
                        count(producer.send(new Message(topic, body)), sent);
                    } catch (Exception e) {
                        failed.incrementAndGet();
                    }
                }
                done.countDown();
            }).start();
        }
        done.await();
        return sent.get() / ((System.nanoTime() - t0) / 1e9);
    }

    private SendCallback callback(Semaphore room, AtomicLong sent) {
        return new SendCallback() {
            @Override
            public void onSuccess(SendResult r) {
                count(r, sent);
                room.release();
            }

            @Override
            public void onException(Throwable e) {
                failed.incrementAndGet();
                room.release();
            }
        };
    }

    /** One thread, a bounded number of sends without an answer. Returns sends a second. */
    private double async(String topic, double seconds) throws Exception {
        AtomicLong sent = new AtomicLong();
        Semaphore room = new Semaphore(OUTSTANDING);
        SendCallback callback = callback(room, sent);
        byte[] body = body();
        long t0 = System.nanoTime();
        long end = t0 + (long) (seconds * 1e9);
        while (System.nanoTime() < end) {
            room.acquire();
            producer.send(new Message(topic, body), callback);
        }
        room.acquire(OUTSTANDING);
        return sent.get() / ((System.nanoTime() - t0) / 1e9);
    }

    /**
     * Sends at an even pace, to a listener here. Returns, sorted, the nanoseconds from when each message was due to be
     * sent until the listener had it: a sender that falls behind shows in them.
     */
    private long[] latency(String hint, double seconds) throws Exception {
        String topic = newTopic(hint);
        int messages = Math.max(1, (int) (seconds * PACE));
        long[] times = new long[messages];
        AtomicInteger came = new AtomicInteger();
        CountDownLatch first = new CountDownLatch(QUEUES);
        CountDownLatch all = new CountDownLatch(messages);
        DefaultMQPushConsumer c = Kit.push(Kit.group(hint), topic, "*");
        c.registerMessageListener((MessageListenerConcurrently) (msgs, ctx) -> {
            long now = System.nanoTime();
            msgs.forEach(m -> {
                long due = ByteBuffer.wrap(m.getBody()).getLong();
                if (due == 0) {
                    first.countDown();
                    return;
                }
                int at = came.getAndIncrement();
                if (at < messages) {
                    times[at] = now - due;
                }
                all.countDown();
            });
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        c.start();
        // Until one came through each queue: no time of finding them is measured.
        for (org.apache.rocketmq.common.message.MessageQueue q : producer.fetchPublishMessageQueues(topic)) {
            producer.send(new Message(topic, new byte[BODY]), q);
        }
        Kit.check(first.await(60, TimeUnit.SECONDS), "the consumer gets nothing");
        Semaphore room = new Semaphore(4096);
        SendCallback callback = callback(room, new AtomicLong());
        byte[] random = body();
        long t0 = System.nanoTime();
        for (int i = 0; i < messages; i++) {
            long due = t0 + i * (1_000_000_000L / PACE);
            while (System.nanoTime() < due) {
                LockSupport.parkNanos(50_000);
            }
            byte[] body = random.clone();
            ByteBuffer.wrap(body).putLong(due);
            room.acquire();
            producer.send(new Message(topic, body), callback);
        }
        Kit.check(all.await(60, TimeUnit.SECONDS), "only " + came.get() + " of " + messages + " messages came");
        c.shutdown();
        Arrays.sort(times);
        return times;
    }
}
