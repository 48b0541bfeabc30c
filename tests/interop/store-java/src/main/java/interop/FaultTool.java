package interop;

import java.io.BufferedReader;
import java.io.File;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;

import org.apache.rocketmq.common.BrokerConfig;
import org.apache.rocketmq.common.ConfigManager;
import org.apache.rocketmq.common.message.MessageConst;
import org.apache.rocketmq.common.message.MessageDecoder;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageExtBrokerInner;
import org.apache.rocketmq.store.AppendMessageResult;
import org.apache.rocketmq.store.GetMessageResult;
import org.apache.rocketmq.store.GetMessageStatus;
import org.apache.rocketmq.store.PutMessageResult;
import org.apache.rocketmq.store.QueryMessageResult;
import org.apache.rocketmq.store.SelectMappedBufferResult;
import org.apache.rocketmq.store.config.FlushDiskType;
import org.apache.rocketmq.store.config.MessageStoreConfig;

/**
 * The Java side of the fault table: opens the store in a directory, then does what standard input says, line by line. The
 * protocol, and the messages, are those of torture/src/peers in this repository; see there.
 */
final class FaultTool {
    static final String TOPIC = "orders";
    static final String GROUP = "readers";

    private final PrintStream out;
    private final StoreTool.Store store;
    private final StoreTool.FakeClock clock;
    private final int queues;
    private final Positions positions;

    private FaultTool(File dir, StoreTool.Spec spec, PrintStream out) throws Exception {
        this.out = out;
        this.queues = spec.i("queues");
        this.clock = "fake".equals(spec.s("clock")) ? new StoreTool.FakeClock(spec.l("t0")) : null;
        this.store = new StoreTool.Store(config(dir, spec), new BrokerConfig(), new ConcurrentHashMap<>(), clock);
        this.positions = new Positions(new File(dir, "config/consumerOffset.json"));
        if (!store.load()) {
            throw new IllegalStateException("load() returned false");
        }
        store.start();
    }

    /** What is not set here is as the version has it. Files are small so that there are several. */
    private static MessageStoreConfig config(File dir, StoreTool.Spec spec) {
        MessageStoreConfig c = new MessageStoreConfig();
        c.setStorePathRootDir(dir.getPath());
        c.setStorePathCommitLog(new File(dir, "commitlog").getPath());
        c.setMappedFileSizeCommitLog(spec.i("cl"));
        c.setMappedFileSizeConsumeQueue(spec.i("cq"));
        c.setMaxHashSlotNum(spec.i("slots"));
        c.setMaxIndexNum(spec.i("index"));
        c.setEnabledAppendPropCRC(spec.b("crc"));
        c.setForceVerifyPropCRC(spec.b("verify"));
        c.setFlushDiskType("sync".equals(spec.s("flush")) ? FlushDiskType.SYNC_FLUSH : FlushDiskType.ASYNC_FLUSH);
        // A minute by default: with this a short run leaves the checkpoint of a long one.
        c.setFlushConsumeQueueThoroughInterval(1000);
        c.setMessageIndexSafe(spec.b("safe"));
        setIfThere(c, "setCommitLogRecoverMaxNum", spec.i("recovermax"));
        c.setHaListenPort(0);
        c.setTimerWheelEnable(false);
        c.setEnableCompaction(false);
        // Nothing written here is ever too old.
        c.setFileReservedTime(24 * 365 * 20);
        return c;
    }

    /** For what only one of the versions has; a value below 0 leaves the default. */
    private static void setIfThere(MessageStoreConfig c, String setter, int value) {
        try {
            if (value >= 0) {
                MessageStoreConfig.class.getMethod(setter, int.class).invoke(c, value);
            }
        } catch (ReflectiveOperationException e) {
            System.err.println("this version has no " + setter);
        }
    }

    // ---------------------------------------------------------------- messages

    static String key(long n) {
        return "k" + n;
    }

    static byte[] body(long n) {
        byte[] b = new byte[(int) (200 + (n * 7919) % 16000)];
        byte[] name = ("message " + n + ' ').getBytes(StandardCharsets.US_ASCII);
        System.arraycopy(name, 0, b, 0, name.length);
        int x = (int) n * 31 + 7;
        for (int i = name.length; i < b.length; i++) {
            x = x * 1103515245 + 12345;
            b[i] = (byte) ('a' + ((x >>> 16) & 0x7fff) % 26);
        }
        return b;
    }

    private MessageExtBrokerInner message(long n) throws Exception {
        MessageExtBrokerInner m = new MessageExtBrokerInner();
        m.setTopic(TOPIC);
        m.setQueueId((int) (n % queues));
        m.setBody(body(n));
        m.setBornTimestamp(store.getSystemClock().now());
        m.setBornHost(new InetSocketAddress(InetAddress.getByAddress(new byte[] {127, 0, 0, 1}), 9999));
        m.setStoreHost(new InetSocketAddress(InetAddress.getByAddress(new byte[] {127, 0, 0, 1}), 10911));
        m.setTags("tag" + n % 3);
        m.setKeys(key(n));
        m.putUserProperty("note", "of " + n);
        m.removeWaitStorePropertyString();
        m.setPropertiesString(MessageDecoder.messageProperties2String(m.getProperties()));
        m.setTagsCode(MessageExtBrokerInner.tagsString2tagsCode(m.getTags()));
        return m;
    }

    private boolean isMessage(long n, MessageExt m) {
        return m != null && TOPIC.equals(m.getTopic()) && m.getQueueId() == n % queues && Arrays.equals(body(n), m.getBody())
            && ("tag" + n % 3).equals(m.getTags()) && key(n).equals(m.getKeys())
            && ("of " + n).equals(m.getProperty("note"));
    }

    /** A message that was acknowledged: where it is, and the hash of its record ("-" if it was not read back). */
    static final class Planned {
        final long n;
        final int queue;
        final long offset;
        final long physical;
        final String sha;

        Planned(String[] words) {
            n = Long.parseLong(words[1]);
            queue = Integer.parseInt(words[3]);
            offset = Long.parseLong(words[4]);
            physical = Long.parseLong(words[5]);
            sha = words[7];
        }
    }

    private String judge(Planned p, ByteBuffer buffer) throws Exception {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.get(bytes);
        if (!"-".equals(p.sha)) {
            return p.sha.equals(StoreTool.sha(bytes)) ? "right" : "wrong";
        }
        MessageExt m = MessageDecoder.decode(ByteBuffer.wrap(bytes), true, false);
        return isMessage(p.n, m) && m.getQueueOffset() == p.offset ? "right" : "wrong";
    }

    // ---------------------------------------------------------------- put

    static final class Waiting {
        final long n;
        final CompletableFuture<PutMessageResult> result;

        Waiting(long n, CompletableFuture<PutMessageResult> result) {
            this.n = n;
            this.result = result;
        }
    }

    /** Puts messages with at most `window` of them unanswered; stops at the first that is not acknowledged if told so. */
    private void put(long first, long count, int window, boolean stop) throws Exception {
        ArrayDeque<Waiting> waiting = new ArrayDeque<>();
        boolean go = true;
        for (long n = first; n < first + count && go; n++) {
            if (clock != null) {
                clock.now += 500;
            }
            try {
                waiting.add(new Waiting(n, store.asyncPutMessage(message(n))));
            } catch (Throwable t) {
                out.println("PUT " + n + " ERROR:" + t.getClass().getSimpleName() + " - - - - -");
                go = !stop;
            }
            while (waiting.size() >= window) {
                go &= answer(waiting.poll()) || !stop;
            }
        }
        for (Waiting w : waiting) {
            answer(w);
        }
        out.println("DONE");
    }

    private boolean answer(Waiting w) throws Exception {
        try {
            PutMessageResult r = w.result.get(60, TimeUnit.SECONDS);
            // Whoever is told of a fault now was not told of success.
            settle();
            AppendMessageResult a = r.getAppendMessageResult();
            String place = a == null || !a.isOk() ? "- - - -"
                : w.n % queues + " " + a.getLogicsOffset() + " " + a.getWroteOffset() + " " + a.getWroteBytes();
            out.println("PUT " + w.n + " " + r.getPutMessageStatus() + " " + place + " -");
            return r.isOk();
        } catch (Throwable t) {
            out.println("PUT " + w.n + " ERROR:" + t.getClass().getSimpleName() + " - - - - -");
            return false;
        }
    }

    /** Says the hash of each planned record, read from the log by position. */
    private void hashes(List<Planned> plan) throws Exception {
        for (Planned p : plan) {
            SelectMappedBufferResult r = store.selectOneMessageByOffset(p.physical);
            byte[] bytes = new byte[r.getSize()];
            r.getByteBuffer().get(bytes);
            r.release();
            out.println("HASH " + p.n + " " + StoreTool.sha(bytes));
        }
        out.println("DONE");
    }

    // ---------------------------------------------------------------- check

    private void check(List<Planned> plan) throws Exception {
        for (int i = 0; i < 2000 && store.dispatchBehindBytes() > 0; i++) {
            Thread.sleep(5);
        }
        Set<Long> places = new HashSet<>();
        StringBuilder lines = new StringBuilder();
        for (Planned p : plan) {
            places.add(p.offset * queues + p.queue);
            String got;
            try {
                got = byQueue(p) + " " + byPosition(p) + " " + byKey(p);
                settle();
            } catch (InternalError e) {
                got = "error:InternalError error:InternalError error:InternalError";
            }
            lines.append("GOT ").append(p.n).append(' ').append(got).append('\n');
        }
        long extra = extra(places);
        out.print(lines);
        out.println("EXTRA " + extra);
        out.println("DONE");
    }

    /** A mapped page that cannot be had is told a little later, wherever the thread then is: here, if not before. */
    private static void settle() throws Exception {
        try (FileOutputStream nowhere = new FileOutputStream("/dev/null")) {
            nowhere.write(new byte[] {0});
        }
    }

    interface Order {
        void run() throws Exception;
    }

    /** What nobody could have been told of is done again; it changes nothing. */
    private static void again(Order order) throws Exception {
        for (int i = 0; i < 100; i++) {
            try {
                order.run();
                return;
            } catch (InternalError e) {
                settle();
            }
        }
    }

    private String byQueue(Planned p) {
        try {
            GetMessageResult g = store.getMessage(GROUP, TOPIC, p.queue, p.offset, 1, null);
            if (g == null) {
                return "lost:null";
            }
            if (g.getStatus() != GetMessageStatus.FOUND) {
                return "lost:" + g.getStatus();
            }
            try {
                return g.getMessageQueueOffset().get(0) == p.offset ? judge(p, g.getMessageBufferList().get(0)) : "lost:SKIPPED";
            } finally {
                g.release();
            }
        } catch (Throwable t) {
            return "error:" + t.getClass().getSimpleName();
        }
    }

    private String byPosition(Planned p) {
        try {
            SelectMappedBufferResult r = store.selectOneMessageByOffset(p.physical);
            if (r == null) {
                return "lost:null";
            }
            try {
                return judge(p, r.getByteBuffer());
            } finally {
                r.release();
            }
        } catch (Throwable t) {
            return "error:" + t.getClass().getSimpleName();
        }
    }

    private String byKey(Planned p) {
        try {
            QueryMessageResult r = store.queryMessage(TOPIC, key(p.n), 64, 0, Long.MAX_VALUE);
            boolean found = false;
            boolean wrong = false;
            for (ByteBuffer b : r.getMessageBufferList()) {
                // The index finds by hash: other messages are no fault, the client drops them.
                MessageExt m = MessageDecoder.decode(b.slice(), true, false);
                if (m != null && key(p.n).equals(m.getKeys())) {
                    boolean right = "right".equals(judge(p, b.slice()));
                    found |= right;
                    wrong |= !right;
                }
            }
            r.release();
            return found ? "right" : wrong ? "wrong" : "lost:NOT_FOUND";
        } catch (Throwable t) {
            return "error:" + t.getClass().getSimpleName();
        }
    }

    /** How many records the queues serve that nobody was told of. */
    private long extra(Set<Long> places) {
        long extra = 0;
        for (int q = 0; q < queues; q++) {
            try {
                long end = Math.min(store.getMaxOffsetInQueue(TOPIC, q), 1_000_000);
                for (long o = Math.max(0, store.getMinOffsetInQueue(TOPIC, q)); o < end; o++) {
                    if (!places.contains(o * queues + q)) {
                        GetMessageResult g = store.getMessage(GROUP, TOPIC, q, o, 1, null);
                        if (g != null && g.getStatus() == GetMessageStatus.FOUND) {
                            extra += g.getMessageQueueOffset().get(0) == o ? 1 : 0;
                            g.release();
                        }
                    }
                }
            } catch (Throwable t) {
                // Told where its messages are asked for.
            }
        }
        return extra;
    }

    // ---------------------------------------------------------------- positions of consumers

    /**
     * The broker keeps positions outside of the store, in a class whose loading and saving is all in ConfigManager. This is that
     * class with another text inside.
     */
    static final class Positions extends ConfigManager {
        private final File file;
        final Map<Integer, Long> of = new TreeMap<>();

        Positions(File file) {
            this.file = file;
        }

        @Override
        public String configFilePath() {
            return file.getPath();
        }

        @Override
        public String encode() {
            return encode(false);
        }

        @Override
        public String encode(boolean pretty) {
            StringBuilder s = new StringBuilder("{\"offsetTable\":{\"" + TOPIC + "@" + GROUP + "\":{");
            of.forEach((q, o) -> s.append(s.charAt(s.length() - 1) == '{' ? "" : ",").append(q).append(':').append(o));
            return s.append("}}}").toString();
        }

        @Override
        public void decode(String json) {
            of.clear();
            if (!json.endsWith("}}}")) {
                throw new IllegalArgumentException("not JSON");
            }
            for (String pair : json.substring(json.lastIndexOf('{') + 1, json.length() - 3).split(",")) {
                String[] kv = pair.split(":");
                of.put(Integer.parseInt(kv[0].trim()), Long.parseLong(kv[1].trim()));
            }
        }
    }

    private void commit(long position) {
        for (int q = 0; q < queues; q++) {
            positions.of.put(q, position);
        }
        positions.persist();
        out.println("DONE");
    }

    private void positions() {
        boolean loaded = positions.load();
        for (int q = 0; q < queues; q++) {
            Long at = positions.of.get(q);
            out.println("POSITION " + q + " " + (!loaded ? "error:load" : at == null ? "none" : at));
        }
        out.println("DONE");
    }

    // ---------------------------------------------------------------- main

    private static List<Planned> plan(String path) throws Exception {
        return Files.readAllLines(Path.of(path)).stream().map(line -> new Planned(line.split(" "))).toList();
    }

    static void run(File dir, StoreTool.Spec spec) throws Exception {
        PrintStream out = System.out;
        FaultTool opened;
        try {
            opened = new FaultTool(dir, spec, out);
        } catch (Throwable t) {
            out.println("REFUSED " + t.getClass().getSimpleName() + ": " + t.getMessage());
            Runtime.getRuntime().halt(1);
            return;
        }
        FaultTool tool = opened;
        out.println("OPEN");
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] w = line.split(" ");
            switch (w[0]) {
                case "put":
                    tool.put(Long.parseLong(w[1]), Long.parseLong(w[2]), Integer.parseInt(w[3]), "stop".equals(w[4]));
                    break;
                case "hashes":
                    tool.hashes(plan(w[1]));
                    break;
                case "check":
                    List<Planned> plan = plan(w[1]);
                    again(() -> tool.check(plan));
                    break;
                case "commit":
                    tool.commit(Long.parseLong(w[1]));
                    break;
                case "positions":
                    tool.positions();
                    break;
                case "close":
                    tool.store.shutdown();
                    out.println("DONE");
                    Runtime.getRuntime().halt(0);
                    break;
                default:
                    throw new IllegalArgumentException(line);
            }
        }
        Runtime.getRuntime().halt(0);
    }
}
