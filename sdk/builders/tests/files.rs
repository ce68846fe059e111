//! The files of builders against the declarations.

use std::path::Path;

use rivulet_builders::{builders, kotlin, python, swift, typescript};

#[test]
fn every_file_is_what_is_declared() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut wrong = Vec::new();
    for (path, text) in [
        (kotlin::PATH, kotlin::file()),
        (python::PATH, python::module()),
        (swift::PATH, swift::file()),
        (typescript::PATH, typescript::module()),
    ] {
        let file = root.join(path);
        if std::fs::read_to_string(&file).is_ok_and(|written| written == text) {
            continue;
        }
        if std::env::var_os("RIVULET_UPDATE_DOCS").is_some() {
            std::fs::write(&file, text).unwrap();
        } else {
            wrong.push(path);
        }
    }
    assert!(
        wrong.is_empty(),
        "not what events/ declares: {wrong:?}. RIVULET_UPDATE_DOCS=1 cargo test -p rivulet-builders writes them"
    );
}

#[test]
fn a_builder_takes_what_its_event_needs() {
    let builders = builders();
    let argument = |builder: &str, field: &str| {
        let builder = builders.iter().find(|b| b.name == builder).unwrap();
        let found = builder.arguments.iter().find(|a| a.field == field);
        found.map(|argument| (argument.name, argument.required))
    };
    assert_eq!(argument("answer", "is_correct"), Some(("correct", true)));
    assert_eq!(argument("hint", "is_correct"), None);
    assert_eq!(argument("rate", "rating"), Some(("rating", true)));
    assert_eq!(argument("hint", "rating"), Some(("rating", false)));
    assert_eq!(argument("hint", "action"), None);
    assert_eq!(argument("session", "action"), Some(("action", true)));
    assert_eq!(
        argument("message", "is_question"),
        Some(("question", false))
    );
}
