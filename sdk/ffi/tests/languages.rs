//! The packages of other languages, by their own tests, on the library that was built with this one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say so")]

use std::{
    env::{self, consts},
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rivulet_sandbox::tools::{missing, program, python};
use uniffi::{GenerateOptions, TargetLanguage, generate};

fn package(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
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

#[test]
fn python_keeps_its_tests_and_types() {
    let package = package("python");
    let requirements = package.join("tests/requirements.txt");
    let Some(python) = python("the Python SDK", "python-sdk", &requirements) else {
        return;
    };
    let native = package.join("src/rivulet/_native");
    bindings(TargetLanguage::Python, &native, &native);
    // As maturin writes it.
    fs::write(
        native.join("__init__.py"),
        "from .rivulet_sdk_ffi import *\n",
    )
    .unwrap();
    let python = || {
        let mut command = Command::new(&python);
        command.current_dir(&package).env("PYTHONPATH", "src");
        command
    };
    run(python().args(["-m", "unittest", "discover", "-t", ".", "-s", "tests"]));
    run(python().args(["-m", "mypy"]));
    run(python().args(["-m", "mypy", "tests", "conformance/driver.py"]));
}

/// What Maven says of what it cannot have.
const NOT_TO_BE_HAD: [&str; 4] = [
    "Could not transfer artifact",
    "Could not find artifact",
    "could not be resolved",
    "UnknownHostException",
];

#[test]
fn kotlin_keeps_its_tests() {
    let what = "the Kotlin SDK";
    let Some(maven) = program(&["mvn"]) else {
        return missing(what, "there is no Maven. On Debian: apt-get install maven");
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
    let compiled = maven(&["test-compile"]);
    let text = said(&compiled);
    if !compiled.status.success() && NOT_TO_BE_HAD.iter().any(|words| text.contains(words)) {
        return missing(what, "what it needs cannot be had of Maven Central");
    }
    assert!(compiled.status.success(), "{text}");
    let tested = maven(&["test"]);
    assert!(tested.status.success(), "{}", said(&tested));
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
