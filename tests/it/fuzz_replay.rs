//! The fuzz targets over their committed corpus, and over what seeded chance makes of it.

#[path = "../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, dead_code)]
mod targets;

use std::{fs, path::Path};

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

#[test]
fn chance_finds_nothing() {
    for (name, target) in targets::TARGETS {
        let inputs = corpus(name);
        for seed in 0..60 {
            println!("{name} seed {seed}");
            let mut rng = Rng::new(seed);
            let mut bytes = match inputs.is_empty() {
                true => vec![0; rng.below(400) as usize],
                false => rng.pick(&inputs).1.clone(),
            };
            if inputs.is_empty() {
                rng.fill(&mut bytes);
            }
            for _ in 0..rng.below(8) {
                if !bytes.is_empty() {
                    let at = rng.below(bytes.len() as u64) as usize;
                    bytes[at] = rng.bits() as u8;
                }
            }
            target(&bytes);
        }
    }
}
