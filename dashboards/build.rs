//! The parents' page is part of the library: a new file among it must rebuild it.

fn main() {
    println!("cargo:rerun-if-changed=page");
}
