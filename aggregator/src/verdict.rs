//! What an error of PostgreSQL means for the batch that met it.

/// What to do about a failed transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Try again: another attempt may not meet it.
    Passing(&'static str),
    /// Try again, slowly, until somebody has acted: no record is to blame.
    Lasting(&'static str),
    /// A record of the batch is to blame.
    Refused,
    /// It takes too long. A record may be to blame, or the time of day: in halves, either passes.
    Slow,
}

/// Judges an error. What is not known is for somebody to look at: retrying loses nothing.
pub(crate) fn judge(error: &sqlx::Error) -> Verdict {
    use Verdict::{Lasting, Passing, Refused, Slow};
    let error = match error {
        sqlx::Error::Database(error) => error,
        // The value does not fit the wire.
        sqlx::Error::Encode(_) => return Refused,
        sqlx::Error::PoolClosed | sqlx::Error::Configuration(_) => return Lasting("client"),
        sqlx::Error::ColumnDecode { .. } => return Lasting("schema"),
        _ => return Passing("connection"),
    };
    let code = error.code().unwrap_or_default();
    match &*code {
        "40P01" => Passing("deadlock"),
        "40001" => Passing("serialization"),
        // A copy of an event was remembered by another transaction after this one looked.
        "23505" => Passing("race"),
        // Another instance dropped a partition between this one's look and its use. Unlike this,
        // a constraint that somebody made has a name.
        "23514" if error.constraint().is_none() => Passing("partition"),
        "42P01" => Passing("partition"),
        // Somebody holds the row: its batch is not what takes long.
        "55P03" => Passing("lock"),
        "57014" => Slow,
        // A trigger's word.
        "P0001" => Refused,
        code => match code.get(..2).unwrap_or_default() {
            // Connection gone, server short of something, restarting or failing over.
            "08" | "25" | "53" | "57" | "58" => Passing("connection"),
            // A value, a constraint, a size.
            "22" | "23" | "44" | "54" => Refused,
            "28" | "3D" => Lasting("login"),
            "3F" | "42" => Lasting("schema"),
            _ => Lasting("server"),
        },
    }
}
