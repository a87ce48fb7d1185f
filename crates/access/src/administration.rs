//! Users and API tokens: made, changed, deleted.
//!
//! Each change reads the record, changes it and writes it under one lock, so that none undoes another and the last
//! enabled administrator can neither leave nor be weakened, whoever asks at the same moment. Deliberately absent:
//! whether the caller may do it and the audit entry; the caller asks [`Access::require`] and [`Access::record`].

use std::time::Duration;

use marketprism_model::{AccessStoreError, ApiToken, Entropy, Id, Role, Secret, StoreError, Timestamp, User};
use thiserror::Error;

use crate::password::{Busy, PasswordError};
use crate::{Access, Identity, api_token, password};

/// The user that the first start makes.
pub const FIRST_ADMIN: &str = "admin";
/// Most letters of a name.
const NAME_LETTERS_MAX: usize = 64;
/// Most users, and most tokens.
const RECORDS_MAX: usize = 10_000;
/// How finely the use of a token is noted.
const USE_STEP: Duration = Duration::from_secs(60);
/// What a new password is drawn from: 32 signs that nobody mixes up.
const SIGNS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
const NEW_PASSWORD_LETTERS: usize = 24;

/// A user to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewUser {
    /// 1 to 64 of `a-z 0-9 . _ @ -`; capitals become small.
    pub name: String,
    /// What the user may do.
    pub role: Role,
    /// 8 to 1024 bytes.
    pub password: Secret,
}

/// What is to change in a user; `None` leaves it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UserChange {
    /// What the user may do.
    pub role: Option<Role>,
    /// 8 to 1024 bytes.
    pub password: Option<Secret>,
    /// Whether the user is shut out.
    pub is_disabled: Option<bool>,
}

/// An API token to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewToken {
    /// What it is for; letters as in a user's name.
    pub name: String,
    /// What its holder may do; at most what its maker may.
    pub role: Role,
    /// When it ends; `None` for never.
    pub expires_at: Option<Timestamp>,
}

/// A name is not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is no name; it must have 1 to 64 of a-z, 0-9, '.', '_', '@', '-'")]
pub struct NameError(String);

/// Why a user or a token was not changed.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// The name does not fit.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Another record has the name.
    #[error("the name {0:?} is taken")]
    NameTaken(String),
    /// The password does not fit.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// There is no such record.
    #[error("there is no {0:?}")]
    NotFound(String),
    /// Nobody could administer any more.
    #[error("{0:?} is the last enabled administrator; make another one first")]
    LastAdmin(String),
    /// A token would do more than its maker may.
    #[error("a token of the role {wanted} takes that role to make; this is {own}")]
    RoleAbove {
        /// The token's.
        wanted: Role,
        /// The maker's.
        own: Role,
    },
    /// The token would have ended already.
    #[error("expires_at is {0}, which has passed")]
    Past(Timestamp),
    /// There are too many records already.
    #[error("there are {RECORDS_MAX} already; delete some first")]
    TooMany,
    /// Too many passwords are hashed at this moment; coming back in a second helps.
    #[error("too many passwords are checked at this moment")]
    Busy,
    /// The records cannot be reached.
    #[error("the records cannot be reached")]
    Store(#[from] StoreError),
}

impl From<Busy> for ChangeError {
    fn from(_: Busy) -> Self {
        ChangeError::Busy
    }
}

impl From<AccessStoreError> for ChangeError {
    fn from(error: AccessStoreError) -> Self {
        match error {
            AccessStoreError::NameTaken(name) => ChangeError::NameTaken(name),
            AccessStoreError::Store(error) => ChangeError::Store(error),
        }
    }
}

/// Reads a name as it is kept: small letters.
pub fn read_name(text: &str) -> Result<String, NameError> {
    let is_fit = |b: u8| b.is_ascii_alphanumeric() || b"._@-".contains(&b);
    if text.is_empty() || text.len() > NAME_LETTERS_MAX || !text.bytes().all(is_fit) {
        return Err(NameError(text.chars().take(NAME_LETTERS_MAX).collect()));
    }
    Ok(text.to_ascii_lowercase())
}

/// Makes a password of 120 bits, in signs that nobody mixes up.
pub fn new_password(entropy: &dyn Entropy) -> Secret {
    let mut bytes = [0; NEW_PASSWORD_LETTERS];
    entropy.fill(&mut bytes);
    let letters = bytes.iter().map(|byte| char::from(SIGNS[usize::from(byte % 32)]));
    Secret::new(letters.collect::<String>())
}

impl Access {
    /// Lists the users, by name.
    pub fn users(&self) -> Result<Vec<User>, StoreError> {
        self.parts.store.users()
    }

    /// Makes a user.
    pub fn create_user(&self, new: NewUser) -> Result<User, ChangeError> {
        let name = read_name(&new.name)?;
        password::judge(&new.password)?;
        let password = self.passwords.hash(&new.password, &*self.parts.entropy)?;
        let _changing = self.changes.lock();
        let users = self.parts.store.users()?;
        if users.iter().any(|user| user.name == name) {
            return Err(ChangeError::NameTaken(name));
        }
        if users.len() >= RECORDS_MAX {
            return Err(ChangeError::TooMany);
        }
        let now = self.parts.clock.now();
        let user = User {
            id: Id::new(now, &*self.parts.chance),
            name,
            role: new.role,
            password,
            is_disabled: false,
            created_at: now,
            sessions_from: now,
        };
        self.parts.store.put_user(&user)?;
        self.users.forget(&user.name);
        Ok(user)
    }

    /// Changes a user. A new password, another role or shutting out ends the user's sessions.
    pub fn change_user(&self, name: &str, change: UserChange) -> Result<User, ChangeError> {
        let name = read_name(name)?;
        let password = match &change.password {
            Some(password) => {
                password::judge(password)?;
                Some(self.passwords.hash(password, &*self.parts.entropy)?)
            }
            None => None,
        };
        let _changing = self.changes.lock();
        let users = self.parts.store.users()?;
        let Some(old) = users.iter().find(|user| user.name == name) else {
            return Err(ChangeError::NotFound(name));
        };
        let mut user = old.clone();
        user.role = change.role.unwrap_or(user.role);
        user.is_disabled = change.is_disabled.unwrap_or(user.is_disabled);
        let has_new_password = password.is_some();
        user.password = password.unwrap_or(user.password);
        if has_new_password || user.role != old.role || (user.is_disabled && !old.is_disabled) {
            // One millisecond on, so that a session of this very millisecond ends too.
            let latest = self.parts.clock.now().max(old.sessions_from);
            user.sessions_from = latest + Duration::from_millis(1);
        }
        if !is_admin(&user) {
            keep_an_admin(&users, old)?;
        }
        self.parts.store.put_user(&user)?;
        self.users.forget(&user.name);
        Ok(user)
    }

    /// Deletes a user, whose sessions end by it.
    pub fn delete_user(&self, name: &str) -> Result<(), ChangeError> {
        let name = read_name(name)?;
        let _changing = self.changes.lock();
        let users = self.parts.store.users()?;
        let Some(user) = users.iter().find(|user| user.name == name) else {
            return Err(ChangeError::NotFound(name));
        };
        keep_an_admin(&users, user)?;
        self.parts.store.delete_user(&name)?;
        self.users.forget(&name);
        Ok(())
    }

    /// Lists the API tokens, by name.
    pub fn tokens(&self) -> Result<Vec<ApiToken>, StoreError> {
        self.parts.store.tokens()
    }

    /// Makes an API token; its value is given here and never again.
    pub fn create_token(&self, by: &Identity, new: NewToken) -> Result<(ApiToken, Secret), ChangeError> {
        let name = read_name(&new.name)?;
        if new.role > by.role {
            let (wanted, own) = (new.role, by.role);
            return Err(ChangeError::RoleAbove { wanted, own });
        }
        let now = self.parts.clock.now();
        if let Some(end) = new.expires_at.filter(|end| *end <= now) {
            return Err(ChangeError::Past(end));
        }
        let value = api_token::make(&*self.parts.entropy);
        let digest = api_token::digest(value.expose()).expect("an own token reads back");
        let _changing = self.changes.lock();
        let tokens = self.parts.store.tokens()?;
        if tokens.iter().any(|token| token.name == name) {
            return Err(ChangeError::NameTaken(name));
        }
        if tokens.len() >= RECORDS_MAX {
            return Err(ChangeError::TooMany);
        }
        let token = ApiToken {
            id: Id::new(now, &*self.parts.chance),
            name,
            role: new.role,
            digest,
            created_by: by.actor.clone(),
            created_at: now,
            expires_at: new.expires_at,
            last_used_at: None,
        };
        self.parts.store.put_token(&token)?;
        Ok((token, value))
    }

    /// Deletes an API token, which is worth nothing from then on.
    pub fn delete_token(&self, name: &str) -> Result<(), ChangeError> {
        let name = read_name(name)?;
        let _changing = self.changes.lock();
        let tokens = self.parts.store.tokens()?;
        let Some(token) = tokens.iter().find(|token| token.name == name) else {
            return Err(ChangeError::NotFound(name));
        };
        self.parts.store.delete_token(&name)?;
        self.tokens.forget(&token.digest);
        Ok(())
    }

    /// Makes the first administrator when there are no users at all, and gives the password, once.
    pub fn ensure_admin(&self) -> Result<Option<Secret>, ChangeError> {
        if !self.parts.store.users()?.is_empty() {
            return Ok(None);
        }
        let password = new_password(&*self.parts.entropy);
        let admin = NewUser {
            name: FIRST_ADMIN.to_owned(),
            role: Role::Admin,
            password: password.clone(),
        };
        match self.create_user(admin) {
            Ok(_) => Ok(Some(password)),
            // Another replica's first start was quicker.
            Err(ChangeError::NameTaken(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Lifts a hash to the present cost, now that the password is at hand; what fails is tried at the next login.
    pub(crate) fn rehash(&self, user: User, password: &Secret) -> User {
        let Ok(hash) = self.passwords.hash(password, &*self.parts.entropy) else {
            return user;
        };
        let _changing = self.changes.lock();
        let present = self.parts.store.user(&user.name).ok().flatten();
        let Some(mut present) = present.filter(|present| present.password == user.password) else {
            return user;
        };
        present.password = hash;
        if let Err(error) = self.parts.store.put_user(&present) {
            tracing::warn!(%error, "a password's hash keeps its old cost");
            return user;
        }
        self.users.forget(&present.name);
        User {
            password: present.password,
            ..user
        }
    }

    /// Notes that a token was used, once a minute. Read again before it is written, since a token that was deleted
    /// meanwhile must not come back.
    pub(crate) fn note_use(&self, token: &ApiToken) {
        let minute = self.parts.clock.now().align_down(USE_STEP);
        if token.last_used_at.is_some_and(|at| at >= minute) {
            return;
        }
        let Some(_changing) = self.changes.try_lock() else {
            return;
        };
        let Ok(Some(mut present)) = self.parts.store.token(&token.digest) else {
            return;
        };
        if present.last_used_at.is_none_or(|at| at < minute) {
            present.last_used_at = Some(minute);
            if let Err(error) = self.parts.store.put_token(&present) {
                tracing::debug!(%error, "the use of a token was not noted");
            }
        }
        self.tokens.doubt(&token.digest);
    }
}

fn is_admin(user: &User) -> bool {
    user.role == Role::Admin && !user.is_disabled
}

fn keep_an_admin(users: &[User], without: &User) -> Result<(), ChangeError> {
    let is_another = |user: &User| user.name != without.name && is_admin(user);
    if is_admin(without) && !users.iter().any(is_another) {
        return Err(ChangeError::LastAdmin(without.name.clone()));
    }
    Ok(())
}
