package interop;

import static interop.Kit.check;
import static interop.Kit.group;
import static interop.Kit.msg;
import static interop.Kit.topic;
import static interop.Kit.until;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;

import org.apache.rocketmq.client.consumer.DefaultMQPullConsumer;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.LocalTransactionState;
import org.apache.rocketmq.client.producer.SendCallback;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.producer.TransactionListener;
import org.apache.rocketmq.client.producer.TransactionMQProducer;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageQueue;

/** Two brokers behind one name server, a broker that is killed again and again, one that follows another. */
public final class ExtraScenarios {
    private static final int KILLS = Integer.getInteger("kills", 10);

    private ExtraScenarios() {
    }

    public static void register(Kit.Suite s) {
        s.add("cluster", "both-brokers", 90, ExtraScenarios::bothBrokers);
        s.add("story", "killed-broker", 400, ExtraScenarios::killed);
        s.add("handover", "fill", 60, ExtraScenarios::fill);
        s.add("handover", "drain", 150, ExtraScenarios::drain);
    }

    /** One producer and one consumer use each broker that the name server knows. */
    static String bothBrokers() throws Exception {
        DefaultMQProducer p = Kit.producer();
        String t = topic("cluster");
        check(until(40, () -> brokers(p, "TBW102").size() == 2), "the cluster is " + brokers(p, "TBW102"));
        p.createTopic("TBW102", t, 4, Map.of());
        check(until(20, () -> brokers(p, t).size() == 2), "the route names " + brokers(p, t));
        Kit.Sink sink = new Kit.Sink();
        DefaultMQPushConsumer c = Kit.collecting(group("cluster"), t, "*", sink);
        try {
            c.start();
            Map<String, Integer> sent = new TreeMap<>();
            Set<String> keys = new TreeSet<>();
            for (int i = 0; i < 200; i++) {
                SendResult r = Kit.sendOk(p, msg(t, "a", "k" + i));
                sent.merge(r.getMessageQueue().getBrokerName(), 1, Integer::sum);
                keys.add("k" + i);
            }
            check(sent.size() == 2, "sent to " + sent);
            check(until(40, () -> sink.byKey.size() == keys.size()), "received " + sink.byKey.size() + " of 200");
            sink.exactly(keys, "both brokers");
            return sent.toString();
        } finally {
            c.shutdown();
            p.shutdown();
        }
    }

    private static Set<String> brokers(DefaultMQProducer p, String t) {
        Set<String> names = new TreeSet<>();
        try {
            for (MessageQueue q : p.fetchPublishMessageQueues(t)) {
                names.add(q.getBrokerName());
            }
        } catch (Exception e) {
            // The route is not there yet.
        }
        return names;
    }

    private static final String HANDED = "T_handover";
    private static final int CONSUMED = 40;

    /** Leaves a broker with what the next one has to go on with: the property "round" names it. */
    static String fill() throws Exception {
        String round = System.getProperty("round");
        DefaultMQProducer p = Kit.producer();
        TransactionMQProducer half = halfProducer(LocalTransactionState.UNKNOW);
        DefaultMQPullConsumer c = Kit.tune(new DefaultMQPullConsumer("G_handover"));
        try {
            half.start();
            c.setInstanceName("fill-" + Kit.RUN);
            c.start();
            Kit.makeTopic(p, HANDED, 1);
            MessageQueue q = c.fetchSubscribeMessageQueues(HANDED).iterator().next();
            long before = p.maxOffset(q);
            for (int i = 0; i < 100; i++) {
                Kit.sendOk(p, msg(HANDED, "a", round + "-" + i));
            }
            check(until(20, () -> {
                // A group that is new to the broker may not be let to do so at first.
                c.updateConsumeOffset(q, before + CONSUMED);
                c.getOffsetStore().persist(q);
                return c.fetchConsumeOffset(q, true) == before + CONSUMED;
            }), "the offset is not stored");
            half.sendMessageInTransaction(msg(HANDED, "half", round + "-half"), null);
            for (int i = 0; i < 10; i++) {
                Message m = msg(HANDED, "delayed", round + "-level-" + i);
                m.setDelayTimeLevel(5);
                Kit.sendOk(p, m);
                m = msg(HANDED, "timed", round + "-timer-" + i);
                m.setDelayTimeMs(60_000 + i);
                Kit.sendOk(p, m);
            }
            // Brokers write offsets to their files every 5 s.
            Thread.sleep(6000);
            return "queue begins at " + before;
        } finally {
            c.shutdown();
            half.shutdown();
            p.shutdown();
        }
    }

    /** What the broker before was left with comes, each message once. */
    static String drain() throws Exception {
        String round = System.getProperty("round");
        TransactionMQProducer half = halfProducer(LocalTransactionState.COMMIT_MESSAGE);
        Kit.Sink sink = new Kit.Sink();
        DefaultMQPushConsumer c = Kit.collecting("G_handover", HANDED, "*", sink);
        Set<String> keys = new TreeSet<>(Set.of(round + "-half"));
        for (int i = CONSUMED; i < 100; i++) {
            keys.add(round + "-" + i);
        }
        for (int i = 0; i < 10; i++) {
            keys.add(round + "-level-" + i);
            keys.add(round + "-timer-" + i);
        }
        try {
            half.start();
            // A producer tells a broker that it is there, to be asked, once it has sent something there.
            Kit.sendOk(half, msg(HANDED, "a", round + "-drain"));
            keys.add(round + "-drain");
            c.start();
            until(100, () -> sink.byKey.size() >= keys.size());
            Thread.sleep(3000);
            // RocketMQ writes down every 3 s which halves are done, and may ask once more until then.
            keys.remove(round + "-half");
            check(sink.byKey.remove(round + "-half") != null, "the half is lost");
            sink.exactly(keys, "after the other broker");
            return keys.size() + " messages";
        } finally {
            c.shutdown();
            half.shutdown();
        }
    }

    private static TransactionMQProducer halfProducer(LocalTransactionState answer) {
        TransactionMQProducer p = Kit.tune(new TransactionMQProducer("P_handover"));
        p.setInstanceName("half-" + Kit.RUN);
        p.setTransactionListener(new TransactionListener() {
            @Override
            public LocalTransactionState executeLocalTransaction(Message m, Object arg) {
                return LocalTransactionState.UNKNOW;
            }

            @Override
            public LocalTransactionState checkLocalTransaction(MessageExt m) {
                return answer;
            }
        });
        return p;
    }

    /** A broker in a process of its own, to be killed: the command in the property "serve". */
    private static final class Served {
        final List<String> command;
        Process process;

        Served(String dir) throws Exception {
            command = new ArrayList<>(List.of(System.getProperty("serve").split(" ")));
            command.addAll(List.of("--data", dir, "--listen", "127.0.0.1:" + freePort()));
            String names = "127.0.0.1:" + freePort();
            command.addAll(List.of("--namesrv-listen", names));
            Kit.namesrv = names;
            start();
        }

        void start() throws Exception {
            process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.DISCARD).start();
            BufferedReader out = new BufferedReader(new InputStreamReader(process.getInputStream()));
            String line = out.readLine();
            check(line != null && line.startsWith("ready "), "the broker did not start: " + line);
        }

        void kill() throws Exception {
            process.destroyForcibly().waitFor();
        }
    }

    private static int freePort() throws Exception {
        try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            return socket.getLocalPort();
        }
    }

    /** Sync and async sends with three retries, two consumers, SIGKILL: what got SEND_OK comes to a listener. */
    static String killed() throws Exception {
        check(System.getProperty("serve") != null, "-Dserve='steadfast serve ...' is missing");
        Served served = new Served(System.getProperty("data", Files.createTempDirectory("story").toString()));
        DefaultMQProducer p = Kit.producer();
        String t = topic("story");
        Kit.makeTopic(p, t, 4);
        p.setSendMsgTimeout(3000);
        p.setRetryTimesWhenSendFailed(3);
        p.setRetryTimesWhenSendAsyncFailed(3);
        Kit.Sink sink = new Kit.Sink();
        String consumers = group("story");
        List<DefaultMQPushConsumer> pair =
            List.of(Kit.collecting(consumers, t, "*", sink), Kit.collecting(consumers, t, "*", sink));
        Set<String> acknowledged = ConcurrentHashMap.newKeySet();
        AtomicInteger failures = new AtomicInteger();
        AtomicBoolean ends = new AtomicBoolean();
        List<Thread> senders = List.of(
            new Thread(() -> sendSync(p, t, acknowledged, failures, ends)),
            new Thread(() -> sendAsync(p, t, acknowledged, failures, ends)));
        try {
            for (DefaultMQPushConsumer c : pair) {
                c.start();
            }
            senders.forEach(Thread::start);
            long seed = Long.getLong("seed", System.nanoTime());
            Random random = new Random(seed);
            for (int i = 0; i < KILLS; i++) {
                int before = acknowledged.size();
                check(until(60, () -> acknowledged.size() > before + 20), "no send succeeds, seed " + seed);
                Thread.sleep(random.nextInt(1500));
                served.kill();
                served.start();
            }
            int before = acknowledged.size();
            check(until(60, () -> acknowledged.size() > before + 20), "no send succeeds, seed " + seed);
            ends.set(true);
            for (Thread sender : senders) {
                sender.join(30_000);
            }
            boolean all = until(120, () -> sink.byKey.keySet().containsAll(acknowledged));
            if (!all) {
                Set<String> lost = new TreeSet<>(acknowledged);
                lost.removeAll(sink.byKey.keySet());
                check(false, lost.size() + " acknowledged messages never came: " + Kit.clip(lost.toString()));
            }
            if (Boolean.getBoolean("once")) {
                check(storedTwice(sink).isEmpty(), "stored twice: " + Kit.clip(storedTwice(sink).toString()));
            }
            return KILLS + " kills, " + acknowledged.size() + " SEND_OK, all consumed; " + failures.get() + " sends failed, "
                + (sink.size() - sink.byKey.size()) + " deliveries repeated, "
                + storedTwice(sink).size() + " stored twice, seed " + seed;
        } finally {
            ends.set(true);
            pair.forEach(DefaultMQPushConsumer::shutdown);
            p.shutdown();
            served.kill();
        }
    }

    /** The keys that came from more than one place of a queue. */
    private static Set<String> storedTwice(Kit.Sink sink) {
        Map<String, String> first = new TreeMap<>();
        Set<String> twice = new TreeSet<>();
        synchronized (sink.all) {
            for (MessageExt m : sink.all) {
                // A message that came back to be retried is another one.
                if (m.getReconsumeTimes() == 0) {
                    String place = m.getQueueId() + "/" + m.getQueueOffset();
                    if (!first.computeIfAbsent(m.getKeys(), k -> place).equals(place)) {
                        twice.add(m.getKeys());
                    }
                }
            }
        }
        return twice;
    }

    private static void sendSync(
        DefaultMQProducer p, String t, Set<String> acknowledged, AtomicInteger failures, AtomicBoolean ends) {
        for (int i = 0; !ends.get(); i++) {
            try {
                if (p.send(msg(t, "sync", "s" + i)).getSendStatus() == SendStatus.SEND_OK) {
                    acknowledged.add("s" + i);
                }
                Thread.sleep(1);
            } catch (Exception e) {
                failures.incrementAndGet();
            }
        }
    }

    private static void sendAsync(
        DefaultMQProducer p, String t, Set<String> acknowledged, AtomicInteger failures, AtomicBoolean ends) {
        Semaphore inFlight = new Semaphore(64);
        for (int i = 0; !ends.get(); i++) {
            String key = "a" + i;
            try {
                inFlight.acquire();
                p.send(msg(t, "async", key), new SendCallback() {
                    @Override
                    public void onSuccess(SendResult r) {
                        inFlight.release();
                        if (r.getSendStatus() == SendStatus.SEND_OK) {
                            acknowledged.add(key);
                        }
                    }

                    @Override
                    public void onException(Throwable e) {
                        inFlight.release();
                        failures.incrementAndGet();
                    }
                });
                Thread.sleep(1);
            } catch (Exception e) {
                inFlight.release();
                failures.incrementAndGet();
            }
        }
    }
}
