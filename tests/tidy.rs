//! What reviewers would otherwise have to look for. Each violation is told with file and line.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

const LINES_MOST: usize = 600;
const FUNCTION_LINES_MOST: usize = 70;
const COLUMNS_MOST: usize = 100;
const OPTIONS_MOST: usize = 20;

/// One source file, its path from the repository's root.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Lines with their numbers, without comments and without the tests at the file's foot.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let before_tests = self.lines().take_while(|(_, line)| *line != "mod tests {");
        before_tests.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(n, line)| (n + 1, line))
    }

    /// Whether all of it is tests or help for tests.
    fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap();
        self.path.contains("tests/") || name.ends_with("tests.rs") || name == "testing.rs"
    }

    /// The engine's module it belongs to: `src/log/append.rs` is in `log`.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        Some(inside.split('/').next()?.trim_end_matches(".rs"))
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for dir in
        ["src", "cli/src", "broker/src", "torture/src", "tests", "benches", "fuzz/fuzz_targets"]
    {
        collect(&root.join(dir), &mut files);
    }
    files.sort();
    let sources: Vec<_> = files
        .iter()
        .map(|file| Source {
            path: file.strip_prefix(root).unwrap().display().to_string(),
            text: fs::read_to_string(file).unwrap(),
        })
        .collect();
    assert!(sources.len() > 50, "the sources were not found");
    sources
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    // Not every directory is in every copy: the package leaves some out.
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Fails with all of `violations`, one a line.
fn none(rule: &str, violations: Vec<String>) {
    assert!(violations.is_empty(), "{rule}:\n  {}\n", violations.join("\n  "));
}

/// The lines of the engine's own code, without tests, that hold one of `needles` outside `allowed`.
fn only_in(rule: &str, needles: &[&str], allowed: &[&str]) {
    let mut found = Vec::new();
    for source in sources() {
        let outside = source.path.starts_with("src/") && !source.is_test();
        if !outside || allowed.iter().any(|prefix| source.path.starts_with(prefix)) {
            continue;
        }
        for (number, line) in source.code() {
            if needles.iter().any(|needle| line.contains(needle)) {
                found.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    none(rule, found);
}

#[test]
fn files_are_short() {
    let long = sources().into_iter().filter(|s| !s.path.ends_with("tests.rs"));
    let long = long.map(|s| (s.text.lines().count(), s.path)).filter(|(n, _)| *n > LINES_MOST);
    none("at most 600 lines", long.map(|(n, path)| format!("{path}:{n}")).collect());
}

#[test]
fn lines_are_short() {
    let mut long = Vec::new();
    for source in sources().iter().filter(|s| !s.path.starts_with("cli/")) {
        // Rows of tables cannot be broken, and the tool's messages are better whole.
        let bound = source.lines().filter(|(_, line)| !line.starts_with("//! |"));
        let columns = bound.map(|(number, line)| (number, line.chars().count()));
        let over = columns.filter(|(_, columns)| *columns > COLUMNS_MOST);
        long.extend(over.map(|(number, columns)| format!("{}:{number}: {columns}", source.path)));
    }
    none("at most 100 columns", long);
}

#[test]
fn functions_are_short() {
    let mut long = Vec::new();
    for source in sources() {
        let mut open: Option<(usize, String)> = None;
        for (number, line) in source.lines() {
            let indent = &line[..line.len() - line.trim_start().len()];
            let words = line.trim_start();
            let begins = words.split('(').next().is_some_and(|head| {
                head.split(' ').any(|word| word == "fn") && !words.starts_with("//")
            });
            match &open {
                None if begins && !words.ends_with(';') => {
                    open = Some((number, format!("{indent}}}")));
                }
                Some((first, end)) if line == end => {
                    if number - first + 1 > FUNCTION_LINES_MOST {
                        long.push(format!("{}:{first}: {} lines", source.path, number - first + 1));
                    }
                    open = None;
                }
                // A whole function on one line, or one without a body.
                Some((first, end)) if *first + 1 == number && line.len() < end.len() => open = None,
                _ => {}
            }
        }
    }
    none("at most 70 lines a function", long);
}

#[test]
fn sources_are_ascii() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|s| s.path.starts_with("src/")) {
        let odd = source.lines().filter(|(_, line)| !line.is_ascii());
        found.extend(odd.map(|(number, line)| format!("{}:{number}: {line}", source.path)));
    }
    none("ASCII only", found);
}

#[test]
fn nothing_is_left_undone() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|s| s.path != "tests/tidy.rs") {
        let undone = ["todo!", "unimplemented!", "dbg!", "FIXME", "TODO"];
        let lines =
            source.lines().filter(|(_, line)| undone.iter().any(|word| line.contains(word)));
        found.extend(lines.map(|(number, line)| format!("{}:{number}: {line}", source.path)));
    }
    none("nothing left undone", found);
}

#[test]
fn unsafe_code_is_in_one_file() {
    only_in("unsafe only in disk/memory.rs", &["unsafe "], &["src/disk/memory.rs"]);
}

#[test]
fn the_file_system_is_touched_in_one_place() {
    let needles = ["std::fs", "fs::File", "memmap2", "rustix::fs", "nix::fcntl"];
    only_in("file access only in disk/", &needles, &["src/disk/"]);
}

#[test]
fn threads_begin_in_one_place() {
    let needles = ["thread::spawn", "thread::Builder", "thread::scope", "thread::sleep"];
    let places = ["src/runtime.rs", "src/recovery/parallel.rs"];
    only_in("threads only where they belong", &needles, &places);
}

#[test]
fn time_is_asked_for_in_one_place() {
    let needles = ["Instant::now", "SystemTime::now"];
    only_in("clocks only in clock.rs", &needles, &["src/clock.rs"]);
}

#[test]
fn the_environment_is_not_asked() {
    only_in("no environment variables in the engine", &["env::var"], &[]);
}

#[test]
fn no_path_climbs() {
    only_in("no super::super", &["super::super"], &[]);
}

#[test]
fn options_stay_few() {
    let sources = sources();
    let options = sources.iter().find(|s| s.path == "src/options.rs").unwrap();
    let fields = options
        .code()
        .skip_while(|(_, line)| !line.starts_with("pub struct Options"))
        .take_while(|(_, line)| *line != "}")
        .filter(|(_, line)| line.starts_with("    pub "))
        .count();
    assert!((1..=OPTIONS_MOST).contains(&fields), "src/options.rs: {fields} options");
}

// ---------------------------------------------------------------- layers

/// The engine's modules from the bottom up. A module uses those below its own layer.
const LAYERS: [&[&str]; 5] = [
    &["error", "offset", "name", "clock", "options", "message", "sync"],
    &["format", "disk", "watermark"],
    &["log", "queue", "index", "consumer", "checkpoint", "ticket", "rest"],
    &["dispatch", "recovery"],
    &[
        "engine",
        "keeper",
        "rederive",
        "relocate",
        "open",
        "read",
        "follow",
        "consumers",
        "store",
        "builder",
        "runtime",
        "verify",
        "repair",
    ],
];

/// Uses inside a layer. Values and plain facts are one layer; so is the store on top.
const BESIDE: [(&str, &str); 3] = [
    // Frames are written by the flusher, between the sync and the acknowledgements.
    ("log", "checkpoint"),
    // A checkpoint carries where the index ended.
    ("checkpoint", "index"),
    // A ticket is a place on the log's marks.
    ("ticket", "log"),
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The modules named by `crate::` paths in code, with the line where the path begins.
fn used(source: &Source) -> Vec<(usize, String)> {
    let mut used = Vec::new();
    let mut group: Option<(usize, i32)> = None;
    for (number, line) in source.code() {
        if let Some((first, depth)) = &mut group {
            if *depth == 1 {
                used.push((*first, head(line.trim())));
            }
            *depth += line.matches('{').count() as i32 - line.matches('}').count() as i32;
            if *depth <= 0 {
                group = None;
            }
            continue;
        }
        for (_, rest) in line.match_indices("crate::").map(|(i, m)| (i, &line[i + m.len()..])) {
            match rest.strip_prefix('{') {
                Some("") => group = Some((number, 1)),
                Some(names) => {
                    let names = names.split(',').map(|name| head(name.trim()));
                    used.extend(names.map(|name| (number, name)));
                }
                None => used.push((number, head(rest))),
            }
        }
    }
    used.retain(|(_, name)| !name.is_empty());
    used
}

/// The first name of a path; names from the crate's root stand for the module they come from.
fn head(path: &str) -> String {
    let name: String = path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    match name.as_str() {
        "Error" | "ErrorKind" | "Result" => "error".to_owned(),
        "Finding" => "recovery".to_owned(),
        _ => name,
    }
}

#[test]
fn no_module_uses_what_is_above_it() {
    let mut found = Vec::new();
    let mut edges = 0;
    for source in sources().iter().filter(|s| !s.is_test()) {
        let Some(module) = source.module().filter(|module| *module != "lib") else { continue };
        let Some(own) = layer(module) else {
            found.push(format!("{}: give the module {module} a layer", source.path));
            continue;
        };
        for (line, name) in used(source) {
            edges += 1;
            let beside = own == 0 || own == 4 || BESIDE.contains(&(module, name.as_str()));
            let fine = match layer(&name) {
                _ if name == module => true,
                Some(other) => other < own || other == own && beside,
                None => false,
            };
            if !fine {
                found.push(format!("{}:{line}: {module} uses {name}", source.path));
            }
        }
    }
    assert!(edges > 100, "the uses were not found: {edges}");
    none("no use of what is beside or above", found);
}
