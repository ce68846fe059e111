//! What must be true is an error where it is not, with both sides.

macro_rules! claim_eq {
    ($left:expr, $right:expr, $($what:tt)+) => {{
        match (&$left, &$right) {
            (left, right) => {
                anyhow::ensure!(*left == *right, "{}: {left:?} is not {right:?}", format!($($what)+));
            }
        }
    }};
}
