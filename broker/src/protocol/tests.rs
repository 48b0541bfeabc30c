//! Headers in both forms, as real programs write them and as nobody should.

use bytes::{Bytes, BytesMut};
use steadfast::disk::sim::Rng;

use super::{
    command::{Request, Response},
    frame::{Frame, Serialization, next_frame},
};

fn read(form: Serialization, header: &[u8]) -> Result<Request, String> {
    let header = Bytes::copy_from_slice(header);
    let frame = Frame { serialization: form, header, body: Bytes::new() };
    Request::read(frame).map_err(|e| e.to_string())
}

#[test]
fn what_real_clients_write_is_read() {
    let java = br#"{"code":38,"extFields":{"consumerGroup":"G_batch_1a15mv_19"},"flag":0,
        "language":"JAVA","opaque":553,"serializeTypeCurrentRPC":"JSON","version":479}"#;
    let request = read(Serialization::Json, java).unwrap();
    assert_eq!((request.code(), request.header.opaque), (38, 553));
    assert_eq!(request.fields().need("consumerGroup"), Ok("G_batch_1a15mv_19"));

    // A client of another kind: numbers as such, nulls, a name of a language that nobody knows.
    let other = br#"{"code":310,"flag":2,"language":"X","opaque":-1,"remark":null,"more":[{}],
        "extFields":{"e":3,"m":false,"i":"a\u00011\u0002","n":null,"o":{"a":[1]},"p":[1,"x"]}}"#;
    let request = read(Serialization::Json, other).unwrap();
    assert!(request.header.is_oneway() && !request.header.is_response());
    let fields: Vec<_> = request.fields().iter().collect();
    assert_eq!(fields, [("e", "3"), ("m", "false"), ("i", "a\u{1}1\u{2}")]);
    assert!(read(Serialization::Json, br#"{"code":1,"opaque":1,"extFields":null}"#).is_ok());

    let hex = "006900\
        01df00000000000000000000000000000011\
        0005746f7069630000000654425731 3032";
    let digits: Vec<_> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let binary: Vec<_> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    let request = read(Serialization::Binary, &binary).unwrap();
    assert_eq!((request.code(), request.fields().get("topic")), (105, Some("TBW102")));
    for len in 0..binary.len() {
        let cut = read(Serialization::Binary, &binary[..len]);
        // Without any field the second length may be missing.
        assert!(cut.is_err() || len == 17, "{len}");
    }
}

#[test]
fn an_answer_is_read_again_in_both_forms() {
    let response = Response::refuse(17, "no \"topic\"\n").field("queueId", 3).body("body");
    for form in [Serialization::Json, Serialization::Binary] {
        let mut out = BytesMut::new();
        response.encode(7, form, &mut out);
        response.encode(8, form, &mut out);
        for opaque in [7, 8] {
            let again = Request::read(next_frame(&mut out).unwrap().unwrap()).unwrap();
            assert!(again.header.is_response());
            assert_eq!((again.code(), again.header.opaque), (17, opaque));
            assert_eq!(again.header.remark.as_deref(), Some("no \"topic\"\n"));
            assert_eq!(again.fields().get("queueId"), Some("3"));
            assert_eq!(&again.body[..], b"body");
        }
        assert!(out.is_empty());
    }
}

#[test]
fn no_bytes_make_it_panic() {
    let mut sound = BytesMut::new();
    let response = Response::ok().field("topic", "t").field("i", "a\u{1}1\u{2}").body("body");
    response.encode(1, Serialization::Json, &mut sound);
    response.encode(2, Serialization::Binary, &mut sound);
    let mut rng = Rng::new(1);
    for _ in 0..20_000 {
        let mut bytes = sound.to_vec();
        for _ in 0..1 + rng.below(6) {
            let at = rng.below(bytes.len() as u64) as usize;
            match rng.below(4) {
                0 => bytes.truncate(at.max(1)),
                1 => bytes[at] = 0xff,
                2 => bytes[at] = 0,
                _ => bytes[at] = rng.bits() as u8,
            }
        }
        let mut received = BytesMut::from(&bytes[..]);
        while let Ok(Some(frame)) = next_frame(&mut received) {
            let _read = Request::read(frame);
        }
    }
}
