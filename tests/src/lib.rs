//! End to end and fault tests on the real stack.
