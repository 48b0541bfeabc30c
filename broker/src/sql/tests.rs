use super::*;

const MESSAGE: [(&str, &str); 5] =
    [("a", "3"), ("b", "2.5"), ("region", "hangzhou"), ("on", "TRUE"), ("quoted", "it's")];

fn matches(condition: &str) -> bool {
    let condition = Condition::parse(condition).unwrap_or_else(|e| panic!("{condition}: {e}"));
    condition.matches(&|name| MESSAGE.iter().find(|(key, _)| *key == name).map(|(_, v)| *v))
}

#[test]
fn conditions_let_through_what_rocketmq_lets_through() {
    for condition in [
        "a > 2",
        "a>=3 AND a <= 3",
        "a BETWEEN 1 AND 3",
        "a not between 4 and 9",
        "b = 2.5",
        "b < 2.6e0",
        "a = 3l",
        "-a IS NULL",
        "region = 'hangzhou'",
        "region IN ('x', 'hangzhou')",
        "region NOT IN ('x')",
        "region <> 'x'",
        "region CONTAINS 'zho'",
        "region STARTSWITH 'hang' AND region ENDSWITH 'zhou'",
        "region NOT CONTAINS 'beijing'",
        "quoted = 'it''s'",
        "none IS NULL",
        "a IS NOT NULL",
        "a > 2 OR none = 1",
        "none = 1 OR a > 2",
        "(a > 5 OR b > 1.0) AND region = 'hangzhou'",
        "on = TRUE",
        "NOT (a > 5)",
        "TRUE",
        "a > -1",
        "a > +1 -- a comment",
        "/* one */ a > 1",
        "a = 3 -- to the end",
        "'x' <> none",
        "a > b",
    ] {
        assert!(matches(condition), "{condition}");
    }
}

#[test]
fn conditions_hold_back_what_rocketmq_holds_back() {
    for condition in [
        "a > 3",
        "a",
        "none > 1",
        "none <> 'x'",
        "NOT (none = 1)",
        "none IN ('x')",
        "none NOT IN ('x')",
        "none CONTAINS 'x'",
        "none NOT CONTAINS 'x'",
        "region > 1",
        // What cannot be compared ends it all.
        "region > 1 OR a = 3",
        "a = 3.5",
        "b = 2",
        "b > 1",
        "on = FALSE",
        "FALSE",
        "NULL",
        "a > 2 AND none = 1",
        "region = 'hang''zhou'",
    ] {
        assert!(!matches(condition), "{condition}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_its_place() {
    for condition in [
        "",
        "a >",
        "a = ",
        "a > 'x'",
        "TRUE > 1",
        "a = NULL",
        "a BETWEEN 3 AND 1",
        "a BETWEEN 1",
        "1 IN ('x')",
        "a IN ()",
        "a IN (1)",
        "a IN ('x'",
        "a CONTAINS 1",
        "a = 'x",
        "a = 1 b",
        "a IS 1",
        "(a = 1",
        "a = 1)",
        "1",
        "'x'",
        "-a",
        "a ? 1",
        "a = .",
        "/* no end",
        "a LIKE 'x'",
    ] {
        assert!(Condition::parse(condition).is_err(), "{condition}");
    }
    let error = Condition::parse("a > 1 AND b >> 2").unwrap_err();
    assert!(error.ends_with("at 13"), "{error}");
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = |n: usize| format!("{}a = 1{}", "(".repeat(n), ")".repeat(n));
    assert!(Condition::parse(&deep(60)).is_ok());
    assert!(Condition::parse(&deep(70)).is_err());
    assert!(Condition::parse(&deep(4000)).is_err());
    assert!(Condition::parse(&format!("{} a = 1", "NOT ".repeat(2000))).is_err());
    let long = |n: usize| vec!["a = 3"; n].join(" AND ");
    assert!(matches(&long(800)));
    assert!(Condition::parse(&long(1000)).is_err());
}

#[test]
fn no_text_makes_it_panic() {
    let words = [
        "a", "=", "<>", "'x'", "1", "2.5", "(", ")", "AND", "OR", "NOT", "IN", "IS", "NULL",
        "BETWEEN", "CONTAINS", ",", "-", "TRUE", "e", ".", "é", "'",
    ];
    let mut seed = 7_u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..seed % 12 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            text.push_str(words[(seed >> 33) as usize % words.len()]);
            if seed >> 60 > 3 {
                text.push(' ');
            }
        }
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        seed >>= 1;
        if let Ok(condition) = Condition::parse(&text) {
            condition.matches(&|name| (name == "a").then_some("3"));
        }
    }
}
