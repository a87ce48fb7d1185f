//! What is shown, held against the records: sessions, API tokens, passwords.
//!
//! The order within each check is what keeps it cheap for those who are known and dear for those who guess: what was
//! right or wrong a moment ago is answered from memory, then the attempt is charged, then the records are asked,
//! then argon2 runs. Deliberately absent: who may do what.

use std::time::Duration;

use marketprism_model::{Secret, StoreError, User};

use crate::access::Settings;
use crate::administration::read_name;
use crate::allow_list::Client;
use crate::attempts::Ticket;
use crate::identity::{Identity, SessionRef};
use crate::keys::Print;
use crate::password::Verdict;
use crate::{Access, Refusal, api_token, password};

/// What became of a password.
enum Judged {
    Right(User),
    Wrong(Refusal),
    /// Found wrong before, and not checked again.
    WrongAgain,
    /// Not checked, for want of a slot.
    Busy,
}

impl Access {
    /// Reads a session's token and holds it against the records.
    pub(crate) fn session(&self, settings: &Settings, token: &Secret) -> Result<Identity, Refusal> {
        let claims = settings
            .keys
            .jwt
            .read(token.expose())
            .ok_or(Refusal::BadCredential)?;
        claims.judge_times(self.parts.clock.now(), settings.auth.token_expiry())?;
        self.metrics.sessions_checked.inc();
        let user = self.user(&claims.sub)?.ok_or(Refusal::Expired)?;
        if user.is_disabled {
            return Err(Refusal::Disabled);
        }
        let now = self.parts.clock.monotonic();
        let is_ended = self
            .ended
            .get(&claims.jti, now, || self.parts.store.is_session_ended(claims.jti))?;
        if is_ended || claims.began_at() < user.sessions_from {
            return Err(Refusal::Expired);
        }
        Ok(Identity {
            role: user.role.min(claims.role),
            session: Some(SessionRef {
                id: claims.jti,
                expires_at: claims.expires_at(),
            }),
            actor: user.name,
        })
    }

    fn user(&self, name: &str) -> Result<Option<User>, StoreError> {
        let now = self.parts.clock.monotonic();
        self.users
            .get(&name.to_owned(), now, || self.parts.store.user(name))
    }

    /// Looks an API token up.
    pub(crate) fn token(
        &self,
        settings: &Settings,
        client: &Client,
        value: &Secret,
    ) -> Result<Identity, Refusal> {
        let limits = &settings.auth.login_attempts;
        let now = self.parts.clock.monotonic();
        let print = settings.keys.print(&[b"token", value.expose().as_bytes()]);
        if self
            .attempts
            .is_known_wrong(client.address, print, Print::default())
        {
            return Err(Refusal::BadCredential);
        }
        let digest = api_token::digest(value.expose());
        let ticket = match digest.filter(|digest| self.tokens.is_known(digest)) {
            Some(_) => None,
            None => Some(self.begin(client, None, settings)?),
        };
        let found = digest.map_or(Ok(None), |digest| {
            self.tokens.get(&digest, now, || self.parts.store.token(&digest))
        });
        let give_back = || ticket.as_ref().inspect(|ticket| self.attempts.give_back(ticket));
        match found {
            Err(error) => {
                give_back();
                Err(error.into())
            }
            Ok(Some(token)) => {
                give_back();
                let is_over = token.expires_at.is_some_and(|end| end <= self.parts.clock.now());
                if is_over {
                    return Err(Refusal::Expired);
                }
                self.note_use(&token);
                Ok(Identity {
                    actor: format!("token:{}", token.name),
                    role: token.role,
                    session: None,
                })
            }
            Ok(None) => {
                if let Some(digest) = &digest {
                    self.tokens.forget(digest);
                }
                let ticket = match ticket {
                    Some(ticket) => ticket,
                    None => self
                        .attempts
                        .begin(client.address, None, limits, now)
                        .map_err(too_many)?,
                };
                self.attempts.fail(&ticket, print, Print::default());
                self.audit_login("authenticate", client, None, "", Some(&Refusal::BadCredential));
                Err(Refusal::BadCredential)
            }
        }
    }

    /// Checks a name and a password that come with every request.
    pub(crate) fn basic(
        &self,
        settings: &Settings,
        client: &Client,
        name: &str,
        password: &Secret,
    ) -> Result<Identity, Refusal> {
        let credential = basic_print(settings, name, password);
        if let Some(identity) = self.verified_before(settings, credential, name)? {
            return Ok(identity);
        }
        let _turn = self.verified.turn(credential).ok_or(Refusal::Busy)?;
        if let Some(identity) = self.verified_before(settings, credential, name)? {
            return Ok(identity);
        }
        match self.check_password(settings, client, name, password) {
            Ok(user) => {
                let now = self.parts.clock.monotonic();
                self.verified.keep(credential, mark(settings, Some(&user)), now);
                let identity = identity(&user);
                self.audit_login("authenticate", client, Some(&identity), &user.name, None);
                Ok(identity)
            }
            Err((refusal, known_name)) => {
                self.audit_login("authenticate", client, None, &known_name, Some(&refusal));
                Err(refusal)
            }
        }
    }

    fn verified_before(
        &self,
        settings: &Settings,
        credential: Print,
        name: &str,
    ) -> Result<Option<Identity>, Refusal> {
        let Some(kept) = self.verified.mark(credential, self.parts.clock.monotonic()) else {
            return Ok(None);
        };
        let user = self.user(&name.to_lowercase())?;
        if let Some(user) = user.filter(|user| kept == mark(settings, Some(user)) && !user.is_disabled) {
            return Ok(Some(identity(&user)));
        }
        self.verified.forget(credential);
        Ok(None)
    }

    /// Checks a password at full cost; a refusal comes with the name if there is such a user.
    pub(crate) fn check_password(
        &self,
        settings: &Settings,
        client: &Client,
        name: &str,
        password: &Secret,
    ) -> Result<User, (Refusal, String)> {
        let name = read_name(name).ok();
        let name_print = name
            .as_ref()
            .map(|name| settings.keys.print(&[b"name", name.as_bytes()]));
        let ticket = self
            .begin(client, name_print, settings)
            .map_err(|refusal| (refusal, String::new()))?;
        let user = name.as_ref().map_or(Ok(None), |name| self.parts.store.user(name));
        let user = user.map_err(|error| {
            self.attempts.give_back(&ticket);
            (error.into(), String::new())
        })?;
        let known_name = user.as_ref().map_or_else(String::new, |user| user.name.clone());
        let typed = name.as_deref().unwrap_or("");
        let credential = settings
            .keys
            .print(&[b"password", typed.as_bytes(), password.expose().as_bytes()]);
        let mark = mark(settings, user.as_ref());
        let judged = if self.attempts.is_known_wrong(client.address, credential, mark) {
            Judged::WrongAgain
        } else if name.is_none() || password::judge(password).is_err() {
            Judged::Wrong(Refusal::BadCredential)
        } else {
            self.judge_password(user, password)
        };
        let refusal = match judged {
            Judged::Right(user) => {
                self.attempts.succeed(&ticket);
                return Ok(user);
            }
            Judged::Wrong(refusal) => {
                self.attempts.fail(&ticket, credential, mark);
                refusal
            }
            Judged::WrongAgain => {
                self.attempts.give_back(&ticket);
                Refusal::BadCredential
            }
            Judged::Busy => {
                self.attempts.give_back(&ticket);
                Refusal::Busy
            }
        };
        Err((refusal, known_name))
    }

    /// Runs argon2, for a user that is there as for one that is not.
    fn judge_password(&self, user: Option<User>, password: &Secret) -> Judged {
        let stored = user.as_ref().map(|user| &user.password);
        let Ok(verdict) = self.passwords.check(password, stored) else {
            return Judged::Busy;
        };
        match user.filter(|_| verdict != Verdict::Wrong) {
            None => Judged::Wrong(Refusal::BadCredential),
            Some(user) if user.is_disabled => Judged::Wrong(Refusal::Disabled),
            Some(user) if verdict == Verdict::RightButCheap => Judged::Right(self.rehash(user, password)),
            Some(user) => Judged::Right(user),
        }
    }

    fn begin(&self, client: &Client, name: Option<Print>, settings: &Settings) -> Result<Ticket, Refusal> {
        let now = self.parts.clock.monotonic();
        let limits = &settings.auth.login_attempts;
        let ticket = self.attempts.begin(client.address, name, limits, now);
        self.metrics.watched_addresses.set(self.attempts.len() as i64);
        ticket.map_err(too_many)
    }
}

fn too_many(retry_after: Duration) -> Refusal {
    Refusal::TooManyAttempts { retry_after }
}

/// Gives the print under which a right name and password are remembered.
pub(crate) fn basic_print(settings: &Settings, name: &str, password: &Secret) -> Print {
    let parts: [&[u8]; 3] = [b"basic", name.as_bytes(), password.expose().as_bytes()];
    settings.keys.print(&parts)
}

/// Gives a print of what a credential is held against: the user's hash and whether the user is shut out.
fn mark(settings: &Settings, user: Option<&User>) -> Print {
    let parts: [&[u8]; 3] = match user {
        Some(user) => [
            b"user",
            user.password.expose().as_bytes(),
            &[u8::from(user.is_disabled)],
        ],
        None => [b"nobody", b"", b""],
    };
    settings.keys.print(&parts)
}

pub(crate) fn identity(user: &User) -> Identity {
    Identity {
        actor: user.name.clone(),
        role: user.role,
        session: None,
    }
}
