//! What an error of PostgreSQL means for the batch that met it.

/// What to do about a failed transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Try again: another attempt may not meet it.
    Passing(Reason),
    /// Try again, slowly, until somebody has acted: no record is to blame.
    Lasting(Reason),
    /// A record of the batch is to blame.
    Refused,
    /// It takes too long, because of one record or because the server is slow now. Halving the batch helps in both
    /// cases.
    Slow,
}

/// Why a transaction failed, in logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Client,
    Connection,
    Deadlock,
    Lock,
    Login,
    Partition,
    Race,
    Refused,
    Schema,
    Serialization,
    Server,
    Timeout,
}

impl Reason {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Connection => "connection",
            Self::Deadlock => "deadlock",
            Self::Lock => "lock",
            Self::Login => "login",
            Self::Partition => "partition",
            Self::Race => "race",
            Self::Refused => "refused",
            Self::Schema => "schema",
            Self::Serialization => "serialization",
            Self::Server => "server",
            Self::Timeout => "timeout",
        }
    }
}

impl Verdict {
    pub(crate) const fn reason(self) -> Reason {
        match self {
            Self::Passing(reason) | Self::Lasting(reason) => reason,
            Self::Refused => Reason::Refused,
            Self::Slow => Reason::Timeout,
        }
    }
}

/// Judges an error. An operator has to look at errors that are not known, and until then the batch is retried, which
/// loses nothing.
pub(crate) fn judge(error: &sqlx::Error) -> Verdict {
    use Verdict::{Lasting, Passing, Refused, Slow};
    let error = match error {
        sqlx::Error::Database(error) => error,
        // The value does not fit the wire.
        sqlx::Error::Encode(_) => return Refused,
        sqlx::Error::PoolClosed | sqlx::Error::Configuration(_) => return Lasting(Reason::Client),
        sqlx::Error::ColumnDecode { .. } => return Lasting(Reason::Schema),
        _ => return Passing(Reason::Connection),
    };
    let code = error.code().unwrap_or_default();
    match &*code {
        "40P01" => Passing(Reason::Deadlock),
        "40001" => Passing(Reason::Serialization),
        // A copy of an event was remembered by another transaction after this one looked.
        "23505" => Passing(Reason::Race),
        // Another instance dropped a partition between this one's look and its use. Unlike this,
        // a constraint that somebody made has a name.
        "23514" if error.constraint().is_none() => Passing(Reason::Partition),
        "42P01" => Passing(Reason::Partition),
        // Somebody else has the row locked. It is not the batch that takes long.
        "55P03" => Passing(Reason::Lock),
        "57014" => Slow,
        // Raised by a trigger.
        "P0001" => Refused,
        code => match code.get(..2).unwrap_or_default() {
            // Connection gone, server short of something, restarting or failing over.
            "08" | "25" | "53" | "57" | "58" => Passing(Reason::Connection),
            // A value, a constraint, a size.
            "22" | "23" | "44" | "54" => Refused,
            "28" | "3D" => Lasting(Reason::Login),
            "3F" | "42" => Lasting(Reason::Schema),
            _ => Lasting(Reason::Server),
        },
    }
}
