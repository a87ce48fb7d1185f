//! The room's door: who asks, may they connect, who are they, what may they do.
//!
//! One object, shared by all requests. Its methods block on the records and on argon2, so callers keep them off the
//! async threads; [`Access::client`], [`Access::admit`], [`Access::require`] and [`Access::vouch`] do neither.
//! Deliberately absent: HTTP's words (headers, cookies, answers), which belong to `server`.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, HeaderValue};
use marketprism_model::{
    AccessStore, ApiToken, AuditEntry, AuditFilter, AuditOutcome, Chance, Clock, Entropy, Id, Page, Role,
    Secret, StoreError, User,
};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;

use crate::allow_list::{AllowList, Client, networks};
use crate::attempts::Attempts;
use crate::audit::{Auditor, Event};
use crate::config::{ApiAuth, Config};
use crate::credentials::{basic_print, identity};
use crate::identity::{Credential, Identity, Session, SessionRef};
use crate::jwt::Claims;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::password::Passwords;
use crate::remembered::Remembered;
use crate::verified::Verified;
use crate::{Refusal, api_token, vouch};

/// Users, sessions and tokens whose records are remembered.
const REMEMBERED_MAX: usize = 10_000;
/// Passwords checked at once at most, 19 MiB each, however many cores there are.
const PASSWORD_SLOTS_MAX: usize = 4;

/// What the room is given.
pub struct Parts {
    /// Keeps users, tokens, ended sessions and the audit log.
    pub store: Arc<dyn AccessStore>,
    /// The only source of time.
    pub clock: Arc<dyn Clock>,
    /// Draws the ids of records.
    pub chance: Arc<dyn Chance>,
    /// Draws salts, passwords and tokens.
    pub entropy: Arc<dyn Entropy>,
}

/// Decides who gets in.
pub struct Access {
    pub(crate) parts: Parts,
    settings: ArcSwap<Settings>,
    pub(crate) passwords: Passwords,
    pub(crate) attempts: Attempts,
    pub(crate) verified: Verified,
    pub(crate) users: Remembered<String, Option<User>>,
    pub(crate) tokens: Remembered<[u8; 32], Option<ApiToken>>,
    pub(crate) ended: Remembered<Id, bool>,
    auditor: Auditor,
    pub(crate) metrics: Metrics,
    /// Held from reading a record until it is written back, so that no change undoes another.
    pub(crate) changes: Mutex<()>,
}

/// What one configuration came to.
pub(crate) struct Settings {
    pub auth: ApiAuth,
    allow_list: AllowList,
    pub keys: Keys,
}

impl Settings {
    fn new(config: &Config, jwt_secret: &Secret) -> Self {
        let control = &config.access_control;
        Settings {
            auth: config.api_auth.clone(),
            allow_list: AllowList {
                is_enabled: control.enabled,
                allowed: networks(&control.allowed_ips, usize::MAX).0,
                trusted_proxies: networks(&control.trusted_proxies, usize::MAX).0,
            },
            keys: Keys::new(jwt_secret.expose().as_bytes()),
        }
    }
}

impl Access {
    /// Opens the room. `config` has been validated; an entry of its lists that is no network counts for nothing.
    pub fn open(config: &Config, jwt_secret: Secret, parts: Parts, registry: &mut Registry) -> Access {
        let slots = std::thread::available_parallelism().map_or(1, usize::from);
        let metrics = Metrics::register(registry);
        let auditor = Auditor::new(
            Arc::clone(&parts.store),
            Arc::clone(&parts.clock),
            Arc::clone(&parts.chance),
            metrics.clone(),
        );
        Access {
            settings: ArcSwap::from_pointee(Settings::new(config, &jwt_secret)),
            passwords: Passwords::new(
                slots.min(PASSWORD_SLOTS_MAX),
                &*parts.entropy,
                metrics.password_runs.clone(),
            ),
            attempts: Attempts::new(),
            verified: Verified::new(),
            users: Remembered::new(REMEMBERED_MAX),
            tokens: Remembered::new(REMEMBERED_MAX),
            ended: Remembered::new(REMEMBERED_MAX),
            auditor,
            metrics,
            changes: Mutex::new(()),
            parts,
        }
    }

    /// Takes new settings. Another secret ends all sessions; users and API tokens stay.
    pub fn set_config(&self, config: &Config, jwt_secret: Secret) {
        self.settings.store(Arc::new(Settings::new(config, &jwt_secret)));
        self.verified.clear();
    }

    /// Finds who asks: another replica's word, then the trusted proxies', then the connection's own address.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let settings = self.settings.load();
        if headers.contains_key(&vouch::HEADER)
            && let Some(client) = settings.keys.voucher.client(headers, self.parts.clock.now())
        {
            return client;
        }
        settings.allow_list.client(peer, headers)
    }

    /// Gives the header by which another replica believes who asks; it holds for 30 s.
    pub fn vouch(&self, client: &Client) -> (HeaderName, HeaderValue) {
        let word = self
            .settings
            .load()
            .keys
            .voucher
            .vouch(client, self.parts.clock.now());
        (vouch::HEADER, word)
    }

    /// Says whether the address may connect. Loopback always may, unless a trusted proxy named another client.
    pub fn admit(&self, client: &Client) -> Result<(), Refusal> {
        if self.settings.load().allow_list.admits(client) {
            return Ok(());
        }
        Err(self.refused(Refusal::Address))
    }

    /// Says whether the identity may do what takes the role `needs`.
    pub fn require(&self, identity: &Identity, needs: Role) -> Result<(), Refusal> {
        if identity.role >= needs {
            return Ok(());
        }
        Err(self.refused(Refusal::Forbidden { needs }))
    }

    /// Recognises who asks by what is shown. When authentication is off, everybody is [`Identity::anybody`].
    pub fn identify(&self, client: &Client, credential: Option<&Credential>) -> Result<Identity, Refusal> {
        let settings = self.settings.load();
        if !settings.auth.enabled {
            return Ok(Identity::anybody());
        }
        let found = match credential {
            None => Err(Refusal::NoCredential),
            Some(Credential::Cookie(token)) => self.session(&settings, token),
            Some(Credential::Bearer(token)) if api_token::is_api_token(token.expose()) => {
                self.token(&settings, client, token)
            }
            Some(Credential::Bearer(token)) => self.session(&settings, token),
            Some(Credential::Basic { password, .. }) if api_token::digest(password.expose()).is_some() => {
                self.token(&settings, client, password)
            }
            Some(Credential::Basic { user, password }) => self.basic(&settings, client, user, password),
        };
        found.map_err(|refusal| self.refused(refusal))
    }

    /// Says whether [`Access::identify`] will most likely run no argon2, so that known tools need not queue behind
    /// those who guess. Cheap; blocks on nothing.
    pub fn is_quick(&self, credential: &Credential) -> bool {
        let Credential::Basic { user, password } = credential else {
            return true;
        };
        let settings = self.settings.load();
        let print = basic_print(&settings, user, password);
        let now = self.parts.clock.monotonic();
        api_token::digest(password.expose()).is_some() || self.verified.mark(print, now).is_some()
    }

    /// Begins a session.
    pub fn login(&self, client: &Client, name: &str, password: &Secret) -> Result<Session, Refusal> {
        let settings = self.settings.load();
        let begun_at = self.parts.clock.now();
        match self.check_password(&settings, client, name, password) {
            Ok(user) => {
                let session = begin_session(&settings, &user, begun_at, &*self.parts.chance);
                self.metrics.login("done");
                self.audit_login("login", client, Some(&session.identity), &user.name, None);
                Ok(session)
            }
            Err((refusal, known_name)) => {
                self.metrics.login("refused");
                self.audit_login("login", client, None, &known_name, Some(&refusal));
                Err(self.refused(refusal))
            }
        }
    }

    /// Ends the session, if the identity came by one. The caller records it.
    pub fn logout(&self, identity: &Identity) -> Result<(), StoreError> {
        let Some(session) = identity.session else {
            return Ok(());
        };
        self.parts.store.end_session(session.id, session.expires_at)?;
        self.ended.forget(&session.id);
        Ok(())
    }

    /// Writes an entry of the audit log. Logins and refused credentials are recorded here already.
    pub fn record(&self, event: Event<'_>) {
        self.auditor.record(&event);
    }

    /// Lists the audit log, newest first.
    pub fn audit(&self, filter: &AuditFilter) -> Result<Page<AuditEntry>, StoreError> {
        self.parts.store.audit(filter)
    }

    /// Deletes what is no longer needed: notes of sessions that have ended, audit entries past their time.
    pub fn clean(&self) -> Result<u64, StoreError> {
        let now = self.parts.clock.now();
        let retention = std::time::Duration::from_secs(self.settings.load().auth.audit_retention);
        self.parts.store.clean_access(now, now - retention)
    }

    pub(crate) fn audit_login(
        &self,
        action: &'static str,
        client: &Client,
        identity: Option<&Identity>,
        name: &str,
        refusal: Option<&Refusal>,
    ) {
        let outcome = match refusal {
            None => AuditOutcome::Done,
            Some(Refusal::Store(_)) => AuditOutcome::Failed,
            Some(_) => AuditOutcome::Refused,
        };
        self.auditor.record(&Event {
            identity,
            action,
            subject: name,
            outcome,
            client: Some(client),
            trace_id: "",
            detail: refusal.map_or("", Refusal::reason),
        });
    }

    fn refused(&self, refusal: Refusal) -> Refusal {
        self.metrics.refused(refusal.reason());
        refusal
    }
}

/// Begins a session of a user whose record was read at or after `begun_at`.
///
/// The session's id carries the beginning: a change of the user that came after the record was read ends it, and a
/// record that was changed a millisecond ahead (by a replica whose clock is ahead) does not.
fn begin_session(
    settings: &Settings,
    user: &User,
    begun_at: marketprism_model::Timestamp,
    chance: &dyn Chance,
) -> Session {
    let iat = u64::try_from(begun_at.millis() / 1000).unwrap_or(0);
    let claims = Claims {
        sub: user.name.clone(),
        role: user.role,
        iat,
        exp: iat.saturating_add(settings.auth.token_expiry().as_secs()),
        jti: Id::new(begun_at.max(user.sessions_from), chance),
    };
    Session {
        token: settings.keys.jwt.sign(&claims),
        expires_at: claims.expires_at(),
        identity: Identity {
            session: Some(SessionRef {
                id: claims.jti,
                expires_at: claims.expires_at(),
            }),
            ..identity(user)
        },
    }
}
