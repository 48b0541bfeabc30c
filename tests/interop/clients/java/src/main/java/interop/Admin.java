package interop;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.tools.command.MQAdminStartup;

/**
 * Runs the commands of a file through the real mqadmin and looks into what it prints.
 *
 * <p>A line is a command. Lines below it that begin with a space are patterns that have to be found
 * in what it prints; one with "! " before it must not be found. An exception is expected only where
 * a pattern says CODE. "TRY " before a command repeats it until the patterns are found.
 *
 * <p>$NAMES and $BROKER are addresses, $ID and $PLACE the ids of the last message that
 * "+send GROUP TOPIC" sent, whose producer stays. "+consume GROUP TOPIC" starts a consumer, and
 * "+received" prints what it got.
 */
public final class Admin {
    private static final long TRIES_MS = 30_000;
    private static final Pattern THROWN = Pattern.compile("Exception(:|$)", Pattern.MULTILINE);
    private static final StringBuffer received = new StringBuffer();
    private static PrintStream out;
    private static String id = "";
    private static String place = "";

    public static void main(String[] args) throws Exception {
        out = System.out;
        List<String> lines = Files.readAllLines(Path.of(args[0]));
        int passed = 0;
        int failed = 0;
        for (int at = 0; at < lines.size();) {
            String line = lines.get(at++);
            if (line.isBlank() || line.startsWith("#")) {
                continue;
            }
            List<String> patterns = new ArrayList<>();
            while (at < lines.size() && lines.get(at).startsWith(" ")) {
                patterns.add(lines.get(at++).trim());
            }
            boolean again = line.startsWith("TRY ");
            String command = again ? line.substring(4) : line;
            long start = System.currentTimeMillis();
            String printed;
            String missing;
            do {
                printed = run(fill(command, args), args[1]);
                missing = missing(printed, patterns);
                if (missing != null && again) {
                    Thread.sleep(500);
                }
            } while (missing != null && again && System.currentTimeMillis() - start < TRIES_MS);
            String took = " (" + (System.currentTimeMillis() - start) / 1000.0 + " s) ";
            if (missing == null) {
                passed++;
                out.println("PASS " + command + took);
            } else {
                failed++;
                out.println("FAIL " + command + took + "not as expected: " + missing);
                out.println(printed);
            }
        }
        out.println(passed + " passed, " + failed + " failed, 0 skipped");
        out.flush();
        // Clients have threads that do not end.
        Runtime.getRuntime().halt(failed == 0 ? 0 : 1);
    }

    private static String fill(String command, String[] args) {
        return command.replace("$NAMES", args[1]).replace("$BROKER", args[2])
            .replace("$ID", id).replace("$PLACE", place);
    }

    private static String missing(String printed, List<String> patterns) {
        for (String pattern : patterns) {
            boolean not = pattern.startsWith("! ");
            Matcher found = Pattern.compile(not ? pattern.substring(2) : pattern, Pattern.MULTILINE)
                .matcher(printed);
            if (found.find() == not) {
                return pattern;
            }
        }
        boolean expected = patterns.stream().anyMatch(pattern -> pattern.contains("CODE"));
        return THROWN.matcher(printed).find() && !expected ? "no exception" : null;
    }

    private static String run(String command, String names) throws Exception {
        String[] words = command.trim().split(" +");
        switch (words[0]) {
            case "+consume":
                consume(names, words[1], words[2]);
                return "";
            case "+send":
                return send(names, words[1], words[2]);
            case "+received":
                return received.toString();
            default:
                return admin(words);
        }
    }

    private static String admin(String[] words) {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        PrintStream printed = new PrintStream(bytes, true, StandardCharsets.UTF_8);
        PrintStream error = System.err;
        System.setOut(printed);
        System.setErr(printed);
        try {
            MQAdminStartup.main0(words, null);
        } finally {
            System.setOut(out);
            System.setErr(error);
        }
        return bytes.toString(StandardCharsets.UTF_8);
    }

    private static void consume(String names, String group, String topic) throws Exception {
        DefaultMQPushConsumer consumer = new DefaultMQPushConsumer(group);
        consumer.setNamesrvAddr(names);
        consumer.setClientIP("here");
        consumer.setInstanceName("consumer");
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        consumer.setPersistConsumerOffsetInterval(200);
        consumer.subscribe(topic, "*");
        consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
            messages.forEach(m -> received.append(new String(m.getBody())).append(' '));
            return ConsumeConcurrentlyStatus.CONSUME_SUCCESS;
        });
        consumer.start();
    }

    private static String send(String names, String group, String topic) throws Exception {
        DefaultMQProducer producer = new DefaultMQProducer(group);
        producer.setNamesrvAddr(names);
        producer.setClientIP("here");
        producer.setInstanceName("producer");
        producer.start();
        byte[] body = "tea".getBytes(StandardCharsets.UTF_8);
        var result = producer.send(new Message(topic, "hot", "key-2", body));
        id = result.getMsgId();
        place = result.getOffsetMsgId();
        return result.toString();
    }
}
