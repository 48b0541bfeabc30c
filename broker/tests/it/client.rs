//! A client of few lines: one connection, one request at a time.
#![allow(clippy::unwrap_used, reason = "a test ends where anything is wrong")]

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};

pub(crate) struct Client {
    stream: TcpStream,
    opaque: i64,
    /// Requests that the server sent meanwhile: code, fields, body.
    pub(crate) pushed: Vec<(i64, BTreeMap<String, String>, Vec<u8>)>,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: i64,
    pub(crate) remark: String,
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn number(&self, field: &str) -> i64 {
        self.fields[field].parse().unwrap()
    }
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, opaque: 0, pushed: Vec::new() }
    }

    /// Sends a request. Gives its number.
    pub(crate) fn start(
        &mut self,
        code: i64,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<i64> {
        self.opaque += 1;
        let fields: BTreeMap<_, _> = fields.iter().copied().collect();
        let header = json!({
            "code": code, "flag": 0, "language": "JAVA", "opaque": self.opaque, "version": 479,
            "extFields": fields,
        });
        self.stream.write_all(&frame(&header, body))?;
        Ok(self.opaque)
    }

    /// The reply to a request, after which no other one is outstanding.
    pub(crate) fn finish(&mut self, opaque: i64) -> io::Result<Reply> {
        let (answered, reply) = self.next_reply()?;
        assert_eq!(answered, opaque);
        Ok(reply)
    }

    /// The next reply, and to which request it is.
    pub(crate) fn next_reply(&mut self) -> io::Result<(i64, Reply)> {
        loop {
            let (header, body) = self.next_frame()?;
            let fields = fields_of(&header);
            let code = header["code"].as_i64().unwrap();
            if header["flag"].as_i64().unwrap() & 1 == 0 {
                self.pushed.push((code, fields, body));
                continue;
            }
            let opaque = header["opaque"].as_i64().unwrap();
            let remark = header["remark"].as_str().unwrap_or_default().to_owned();
            return Ok((opaque, Reply { code, remark, fields, body }));
        }
    }

    fn next_frame(&mut self) -> io::Result<(Value, Vec<u8>)> {
        let mut length = [0; 8];
        self.stream.read_exact(&mut length)?;
        let [a, b, c, d, _, x, y, z] = length;
        let total = u32::from_be_bytes([a, b, c, d]) as usize;
        let mut rest = vec![0; total - 4];
        self.stream.read_exact(&mut rest)?;
        let body = rest.split_off(u32::from_be_bytes([0, x, y, z]) as usize);
        Ok((serde_json::from_slice(&rest).unwrap(), body))
    }

    pub(crate) fn try_call(
        &mut self,
        code: i64,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Reply> {
        let opaque = self.start(code, fields, body)?;
        self.finish(opaque)
    }

    pub(crate) fn call(&mut self, code: i64, fields: &[(&str, &str)], body: &[u8]) -> Reply {
        self.try_call(code, fields, body).unwrap()
    }

    /// The next request of the server's that wants an answer: its number, code, fields and body.
    pub(crate) fn next_question(&mut self) -> (i64, i64, BTreeMap<String, String>, Vec<u8>) {
        loop {
            let (header, body) = self.next_frame().unwrap();
            let number = |name: &str| header[name].as_i64().unwrap();
            let (code, fields) = (number("code"), fields_of(&header));
            if number("flag") == 0 {
                return (number("opaque"), code, fields, body);
            }
            self.pushed.push((code, fields, body));
        }
    }

    /// Answers a request of the server's.
    pub(crate) fn answer(&mut self, opaque: i64, body: &[u8]) {
        let header = json!({ "code": 0, "flag": 1, "opaque": opaque });
        self.stream.write_all(&frame(&header, body)).unwrap();
    }

    /// Sends a message with properties such as `TAGS=a`.
    pub(crate) fn try_send(
        &mut self,
        topic: &str,
        properties: &[&str],
        body: &[u8],
    ) -> io::Result<Reply> {
        let opaque = self.start_send(topic, properties, body)?;
        self.finish(opaque)
    }

    /// Begins to. Gives the request's number.
    pub(crate) fn start_send(
        &mut self,
        topic: &str,
        properties: &[&str],
        body: &[u8],
    ) -> io::Result<i64> {
        let properties = properties.iter().map(|p| p.replacen('=', "\u{1}", 1) + "\u{2}");
        let properties: String = properties.collect();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let born = now.as_millis().to_string();
        let fields = [
            ("a", "producers"),
            ("b", topic),
            ("c", "TBW102"),
            ("d", "1"),
            ("e", "0"),
            ("f", "0"),
            ("g", &born),
            ("h", "0"),
            ("i", &properties),
        ];
        self.start(310, &fields, body)
    }

    pub(crate) fn send(&mut self, topic: &str, properties: &[&str], body: &[u8]) -> Reply {
        let reply = self.try_send(topic, properties, body).unwrap();
        assert_eq!(reply.code, 0, "{reply:?}");
        reply
    }

    /// Sends a batch, all of it with `properties`.
    pub(crate) fn send_batch(&mut self, topic: &str, properties: &str, body: &[u8]) -> Reply {
        let fields = [
            ("a", "producers"),
            ("b", topic),
            ("c", "TBW102"),
            ("d", "1"),
            ("e", "0"),
            ("i", properties),
            ("m", "true"),
        ];
        self.call(320, &fields, body)
    }

    /// Asks for messages of queue 0 from `from` on, and waits for `wait` milliseconds.
    pub(crate) fn pull(&mut self, topic: &str, expression: &str, from: i64, wait: u32) -> Reply {
        let (from, wait) = (from.to_string(), wait.to_string());
        let fields = [
            ("consumerGroup", "consumers"),
            ("topic", topic),
            ("queueId", "0"),
            ("queueOffset", &from),
            ("maxMsgNums", "32"),
            ("sysFlag", "6"),
            ("commitOffset", "0"),
            ("suspendTimeoutMillis", &wait),
            ("subscription", expression),
            ("subVersion", "0"),
        ];
        self.call(11, &fields, b"")
    }

    /// The bodies of all messages of queue 0 from `from` on.
    pub(crate) fn bodies(&mut self, topic: &str, from: i64) -> Vec<Vec<u8>> {
        let (mut next, mut all) = (from, Vec::new());
        loop {
            let reply = self.pull(topic, "*", next, 0);
            match reply.code {
                0 => all.extend(bodies(&reply.body)),
                20 => {}
                19 => return all,
                _ => panic!("{reply:?}"),
            }
            next = reply.number("nextBeginOffset");
        }
    }

    /// Waits until queue 0 has so many messages.
    pub(crate) fn until_there(&mut self, topic: &str, count: i64) {
        for _ in 0..10_000 {
            let end = self.call(30, &[("topic", topic), ("queueId", "0")], b"").number("offset");
            if end >= count {
                return;
            }
            self.pull(topic, "*", end, 1000);
        }
        panic!("not all came to {topic}");
    }

    /// Waits for the message at `from`.
    pub(crate) fn next_body(&mut self, topic: &str, from: i64) -> Vec<u8> {
        for _ in 0..20 {
            let reply = self.pull(topic, "*", from, 15_000);
            if reply.code == 0 {
                return bodies(&reply.body).swap_remove(0);
            }
        }
        panic!("nothing came to {topic}");
    }
}

fn frame(header: &Value, body: &[u8]) -> Vec<u8> {
    let header = header.to_string();
    let mut frame = Vec::new();
    frame.extend((4 + header.len() as u32 + body.len() as u32).to_be_bytes());
    frame.extend((header.len() as u32).to_be_bytes());
    frame.extend(header.as_bytes());
    frame.extend(body);
    frame
}

fn fields_of(header: &Value) -> BTreeMap<String, String> {
    let fields = header["extFields"].as_object().cloned().unwrap_or_default();
    fields.into_iter().map(|(name, value)| (name, value.as_str().unwrap().to_owned())).collect()
}

/// The body of a batch of so many messages, which have no bodies of their own.
pub(crate) fn batch(messages: usize) -> Vec<u8> {
    let mut one = [0; 22];
    one[3] = 22;
    one.repeat(messages)
}

/// The bodies of records with IPv4 hosts.
pub(crate) fn bodies(mut records: &[u8]) -> Vec<Vec<u8>> {
    let number = |bytes: &[u8], at: usize| {
        u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    };
    let mut all = Vec::new();
    while !records.is_empty() {
        let (record, rest) = records.split_at(number(records, 0));
        let len = number(record, 84);
        all.push(record[88..88 + len].to_vec());
        records = rest;
    }
    all
}
