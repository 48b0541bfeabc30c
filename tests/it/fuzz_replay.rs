//! The fuzz targets over their committed corpus, and over what seeded chance makes of it. Needs no
//! fuzzer: this is what CI runs.
//!
//! `STEADFAST_FUZZ_ITERATIONS` sets the inputs per target (default 60), `STEADFAST_SEED` the first
//! printed seed.

#[path = "../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, dead_code)]
mod targets;

use std::{env, fs, path::Path};

use steadfast::disk::sim::Rng;

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let Ok(entries) = fs::read_dir(&dir) else { return Vec::new() };
    let mut inputs: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    inputs.sort();
    inputs
}

#[test]
fn the_corpus_finds_nothing() {
    for (name, target) in targets::TARGETS {
        let inputs = corpus(name);
        println!("{name}: {} inputs", inputs.len());
        for (path, bytes) in inputs {
            // Told before, so that it is known which one fails.
            println!("{path}");
            target(&bytes);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().unwrap())
}

/// One of `inputs` or random bytes, changed a little.
fn mutated(rng: &mut Rng, inputs: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = match inputs.is_empty() {
        true => vec![0; rng.below(400) as usize],
        false => rng.pick(inputs).1.clone(),
    };
    if inputs.is_empty() {
        rng.fill(&mut bytes);
    }
    for _ in 0..rng.below(8) {
        let at = rng.below(bytes.len() as u64 + 1) as usize;
        match rng.below(8) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.bits() as u8),
            // Numbers at which sizes and counts go wrong.
            2 => {
                let value = *rng.pick(&[0, 1, 0x7f, 0x80, 0xff]);
                let until = bytes.len().min(at + 4);
                bytes[at..until].fill(value);
            }
            // The end of another input.
            3 if !inputs.is_empty() => {
                let other = &rng.pick(inputs).1;
                let from = rng.below(other.len() as u64 + 1) as usize;
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ if at < bytes.len() => bytes[at] = rng.bits() as u8,
            _ => {}
        }
    }
    bytes
}

#[test]
fn chance_finds_nothing() {
    let first = number("STEADFAST_SEED").unwrap_or(0);
    let iterations = number("STEADFAST_FUZZ_ITERATIONS").unwrap_or(60);
    for (name, target) in targets::TARGETS {
        let inputs = corpus(name);
        for seed in first..first + iterations {
            println!("{name} STEADFAST_SEED={seed} STEADFAST_FUZZ_ITERATIONS=1");
            target(&mutated(&mut Rng::new(seed), &inputs));
        }
    }
}
