//! Writes the bindings of a built library; `sdk/ffi/bindings` runs it, and maturin.

fn main() {
    uniffi::uniffi_bindgen_main();
}
