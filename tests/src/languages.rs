//! The SDKs of other languages on the library that was built with the tests: their bindings, their own tests, and the
//! drivers by which they are held to the contract.

#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "for tests only, which end here in any case"
)]

use std::{
    env::{self, consts},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rivulet_sandbox::tools::{missing, program, python};
use uniffi::{GenerateOptions, TargetLanguage, generate};

fn package(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../sdk")
        .join(name)
}

fn library() -> PathBuf {
    let name = format!(
        "{}rivulet_sdk_ffi{}",
        consts::DLL_PREFIX,
        consts::DLL_SUFFIX
    );
    env::current_exe().unwrap().with_file_name(name)
}

/// Writes the bindings of a language, and the library, as `sdk/ffi/bindings` does.
fn bindings(language: TargetLanguage, bindings: &Path, library_in: &Path) {
    let library = library();
    fs::create_dir_all(library_in).unwrap();
    fs::copy(&library, library_in.join(library.file_name().unwrap())).unwrap();
    generate(GenerateOptions {
        languages: vec![language],
        source: library.to_str().unwrap().into(),
        out_dir: bindings.to_str().unwrap().into(),
        metadata_no_deps: true,
        ..GenerateOptions::default()
    })
    .unwrap();
}

fn said(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|said| String::from_utf8_lossy(said));
    format!("{}\n{out}\n{err}", output.status)
}

#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

/// Runs Python's own tests and types, and returns the command of its driver. `None` where it cannot be had.
pub fn python_sdk() -> Option<Vec<String>> {
    let package = package("python");
    let requirements = package.join("tests/requirements.txt");
    let python = python("the Python SDK", "python-sdk", &requirements)?;
    let native = package.join("src/rivulet/_native");
    bindings(TargetLanguage::Python, &native, &native);
    // As maturin writes it.
    fs::write(
        native.join("__init__.py"),
        "from .rivulet_sdk_ffi import *\n",
    )
    .unwrap();
    let test = |args: &[&str]| {
        let mut command = Command::new(&python);
        command.current_dir(&package).env("PYTHONPATH", "src");
        run(command.args(args));
    };
    test(&["-m", "unittest", "discover", "-t", ".", "-s", "tests"]);
    test(&["-m", "mypy"]);
    test(&["-m", "mypy", "tests", "conformance/driver.py"]);
    Some(vec![
        "env".to_owned(),
        format!("PYTHONPATH={}", text(&package.join("src"))),
        text(&python),
        text(&package.join("conformance/driver.py")),
    ])
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// What Maven says of what it cannot have.
const NOT_TO_BE_HAD: [&str; 4] = [
    "Could not transfer artifact",
    "Could not find artifact",
    "could not be resolved",
    "UnknownHostException",
];

/// Runs Kotlin's own tests, and returns the command of its driver. `None` where it cannot be had.
pub fn kotlin_sdk() -> Option<Vec<String>> {
    let what = "the Kotlin SDK";
    let Some(maven) = program(&["mvn"]) else {
        missing(what, "there is no Maven. On Debian: apt-get install maven");
        return None;
    };
    let package = package("kotlin");
    let native = package.join("native");
    bindings(
        TargetLanguage::Kotlin,
        &native.join("kotlin"),
        &native.join("resources").join(jna_platform()),
    );
    let maven = |goals: &[&str]| {
        let mut command = Command::new(&maven);
        command.current_dir(&package).args(["-q", "-B"]).args(goals);
        command.output().unwrap()
    };
    let class_path = "-Dmdep.outputFile=target/class-path";
    let compiled = maven(&["test-compile", "dependency:build-classpath", class_path]);
    let text = said(&compiled);
    if !compiled.status.success() && NOT_TO_BE_HAD.iter().any(|words| text.contains(words)) {
        missing(what, "what it needs cannot be had of Maven Central");
        return None;
    }
    assert!(compiled.status.success(), "{text}");
    let tested = maven(&["test"]);
    assert!(tested.status.success(), "{}", said(&tested));
    let target = package.join("target");
    let libraries = fs::read_to_string(target.join("class-path")).unwrap();
    let target = self::text(&target);
    let class_path = format!(
        "{target}/classes:{target}/test-classes:{}",
        libraries.trim()
    );
    let java = ["java", "-cp", &class_path, "io.rivulet.DriverKt"];
    Some(java.map(str::to_owned).to_vec())
}

/// This platform as JNA names it.
fn jna_platform() -> String {
    let os = match consts::OS {
        "macos" => "darwin",
        "windows" => "win32",
        os => os,
    };
    format!("{os}-{}", consts::ARCH.replace('_', "-"))
}
