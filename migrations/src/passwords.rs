//! The passwords of PostgreSQL's logins.

use std::{num::NonZeroU32, time::Duration};

use aws_lc_rs::{digest, hmac, pbkdf2, rand};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use sqlx::{AssertSqlSafe, PgPool};

/// Fewer characters are guessed.
const SHORTEST: usize = 16;

/// Why a password is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weak {
    /// There is none, or it is short.
    #[error(
        "has fewer than {SHORTEST} characters, so that it could be guessed: make one with `openssl rand -hex 16`, or \
         unset the variable"
    )]
    Short,
    /// PostgreSQL and its clients may not agree on what else means.
    #[error(
        "has something else than visible characters of ASCII: make one with `openssl rand -hex 16`"
    )]
    Odd,
}

/// Whether a password is one to give to a login.
///
/// # Errors
/// It is not.
pub fn check_password(password: &str) -> Result<(), Weak> {
    if !password.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Weak::Odd);
    }
    match password.len() < SHORTEST {
        true => Err(Weak::Short),
        false => Ok(()),
    }
}

/// Why a role has no password now.
#[derive(Debug, thiserror::Error)]
pub enum NoPassword {
    /// See [`Weak`].
    #[error("the password of {0} {1}")]
    Weak(String, Weak),
    /// The login that migrates may not.
    #[error(
        "the login of DATABASE_URL may not change the role {0}: have somebody who may do that run, in psql, \
         `ALTER ROLE {0} LOGIN` and `\\password {0}`, and run this without its password"
    )]
    Forbidden(String),
    /// Another process changes roles all the time.
    #[error("the role {0} is being changed by somebody else: run it again")]
    Contended(String),
    /// The system gives no random numbers.
    #[error("the system has no random numbers")]
    Random,
    /// PostgreSQL failed.
    #[error("PostgreSQL: {0}")]
    Database(#[from] sqlx::Error),
}

/// How often a change is tried that another process makes at the same moment: roles belong to the whole cluster.
const ATTEMPTS: u32 = 20;

/// Lets a role log in, with this password. Of the password only what PostgreSQL checks it by leaves this process, so no log
/// of statements has it. Returns whether something was changed.
///
/// # Errors
/// See [`NoPassword`].
pub async fn give_password(pool: &PgPool, role: &str, password: &str) -> Result<bool, NoPassword> {
    check_password(password).map_err(|weak| NoPassword::Weak(role.to_owned(), weak))?;
    for attempt in 1.. {
        if knows(pool, role, password).await? {
            return Ok(false);
        }
        let mut salt = [0; 16];
        rand::fill(&mut salt).map_err(|_| NoPassword::Random)?;
        // A verifier has nothing to be quoted in it.
        let alter = format!(
            "ALTER ROLE \"{}\" LOGIN PASSWORD '{}'",
            role.replace('"', "\"\""),
            verifier(password, &salt, ITERATIONS)
        );
        let failed = match sqlx::raw_sql(AssertSqlSafe(alter)).execute(pool).await {
            Ok(_) => return Ok(true),
            Err(error) => error,
        };
        let code = failed.as_database_error().and_then(|error| error.code());
        match code.as_deref() {
            Some("42501") => return Err(NoPassword::Forbidden(role.to_owned())),
            // "tuple concurrently updated"
            Some("XX000") if attempt < ATTEMPTS => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Some("XX000") => break,
            _ => return Err(failed.into()),
        }
    }
    Err(NoPassword::Contended(role.to_owned()))
}

/// Whether the role logs in with this password already, as far as the pool's login may know.
async fn knows(pool: &PgPool, role: &str, password: &str) -> Result<bool, sqlx::Error> {
    let may_know: bool =
        sqlx::query_scalar("SELECT has_column_privilege('pg_authid', 'rolpassword', 'SELECT')")
            .fetch_one(pool)
            .await?;
    if !may_know {
        return Ok(false);
    }
    let stored: Option<Option<String>> =
        sqlx::query_scalar("SELECT rolpassword FROM pg_authid WHERE rolname = $1 AND rolcanlogin")
            .bind(role)
            .fetch_optional(pool)
            .await?;
    Ok(stored
        .flatten()
        .is_some_and(|stored| is_verifier_of(&stored, password)))
}

/// As many as PostgreSQL and its clients take by default. A password is random, so more would only make logins slow.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4_096).unwrap();

/// What PostgreSQL stores of a password for SCRAM-SHA-256 (RFC 5803).
fn verifier(password: &str, salt: &[u8], iterations: NonZeroU32) -> String {
    let mut salted = [0; digest::SHA256_OUTPUT_LEN];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        salt,
        password.as_bytes(),
        &mut salted,
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let client_key = hmac::sign(&key, b"Client Key");
    let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
    let server_key = hmac::sign(&key, b"Server Key");
    let [salt, stored_key, server_key] =
        [salt, stored_key.as_ref(), server_key.as_ref()].map(|part| BASE64_STANDARD.encode(part));
    format!("SCRAM-SHA-256${iterations}:{salt}${stored_key}:{server_key}")
}

fn is_verifier_of(stored: &str, password: &str) -> bool {
    let parts = || {
        let (iterations, rest) = stored.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
        let (salt, _) = rest.split_once('$')?;
        Some((iterations.parse().ok()?, BASE64_STANDARD.decode(salt).ok()?))
    };
    parts().is_some_and(|(iterations, salt)| verifier(password, &salt, iterations) == stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_that_of_the_standard() {
        // RFC 7677, 3: the exchange of its example has these keys.
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let made = verifier("pencil", &salt, ITERATIONS);
        assert_eq!(
            made,
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
             wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
        assert!(is_verifier_of(&made, "pencil"));
        for (stored, password) in [
            (&*made, "pencil2"),
            ("md5abcdef", "pencil"),
            ("SCRAM-SHA-256$0:x$y:z", "pencil"),
            ("", ""),
        ] {
            assert!(!is_verifier_of(stored, password), "{stored}");
        }
    }

    #[test]
    fn a_password_that_could_be_guessed_or_misread_is_refused() {
        for short in ["", "postgres", "fifteen-letters"] {
            assert_eq!(check_password(short), Err(Weak::Short), "{short}");
        }
        for odd in [
            "sixteen letters and blanks",
            "sechzehn-Buchstäben",
            "a-line-of-a-file\n",
        ] {
            assert_eq!(check_password(odd), Err(Weak::Odd), "{odd}");
        }
        assert_eq!(check_password("sixteen-letters!"), Ok(()));
    }
}
