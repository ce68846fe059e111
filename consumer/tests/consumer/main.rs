//! The consumer on a real Kafka and a real PostgreSQL.

#[cfg(test)]
mod faults;
#[cfg(test)]
mod flow;
#[cfg(test)]
mod positions;
#[cfg(test)]
mod support;
