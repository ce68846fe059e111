//! The schemas are part of the library: a new file among them must rebuild it.

fn main() {
    println!("cargo:rerun-if-changed=postgres");
}
