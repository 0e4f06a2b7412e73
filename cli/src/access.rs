//! Which control plane a command works with, and with what proof.
//!
//! Invariant: a URL that may not get a token is refused here, before the token is read.

use std::net::IpAddr;
use std::path::PathBuf;

use reqwest::Url;

use crate::args::Common;
use crate::config::{self, Config};
use crate::environment::Environment;
use crate::failure::usage;

/// A control plane, and the files that let one in.
#[derive(Debug)]
pub(crate) struct Access {
    /// The REST API.
    pub(crate) url: Url,
    /// The user's token.
    pub(crate) token_file: PathBuf,
    /// The authorities to trust; the system's if there is none.
    pub(crate) ca_file: Option<PathBuf>,
}

impl Access {
    /// By the flags, else the environment, else the config file's current control plane.
    pub(crate) fn find(common: &Common, environment: &Environment) -> anyhow::Result<Self> {
        let access = Self::configured(common, environment)?;
        access.ok_or_else(|| {
            usage(
                "no control plane is known: give --api or URSA_API, or ursactl config control-planes add NAME",
            )
        })
    }

    /// As [`Self::find`], but it is no error if nothing names a control plane.
    pub(crate) fn configured(common: &Common, environment: &Environment) -> anyhow::Result<Option<Self>> {
        let token_file = common.token_file.clone().or_else(|| environment.token_file.clone());
        let ca_file = common.ca_file.clone().or_else(|| environment.ca_file.clone());
        if let Some(url) = common.api.as_ref().or(environment.api.as_ref()) {
            let url = api_url(url)?;
            // Not from the config file: its tokens are for the control planes that it names.
            let token_file =
                token_file.ok_or_else(|| usage("a token is needed: give --token-file or URSA_TOKEN_FILE"))?;
            return Ok(Some(Self { url, token_file, ca_file }));
        }
        let config = Config::load(&config::path(common, environment)?)?;
        let Some(current) = config.current()? else { return Ok(None) };
        Ok(Some(Self {
            url: api_url(&current.url)?,
            token_file: token_file.unwrap_or_else(|| current.token_file.clone()),
            ca_file: ca_file.or_else(|| current.ca_file.clone()),
        }))
    }
}

/// The URL of a REST API: https, or http to this machine.
pub(crate) fn api_url(text: &str) -> anyhow::Result<Url> {
    let refuse = |why: &str| Err(usage(format!("the API's URL {text:?} cannot be used: {why}")));
    let Ok(url) = Url::parse(text) else {
        return refuse(
            "write it as https://HOST:5682, or http://127.0.0.1:5681 on the control plane's machine",
        );
    };
    if !url.username().is_empty() || url.password().is_some() {
        // Not repeated: it may hold a password.
        return Err(usage(
            "the API's URL must hold no user or password: name a token's file by --token-file",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("it must end with the path");
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => refuse(
            "plain http would show the token to the network; it is for loopback addresses only, use https (port 5682)",
        ),
        _ => refuse("it must begin with https:// or, for loopback addresses, http://"),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    // The client resolves this name by itself, to loopback addresses.
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_this_machine() {
        for url in [
            "http://127.0.0.1:5681",
            "http://127.1.2.3/",
            "http://[::1]:5681",
            "http://localhost:5681",
            "HTTP://LOCALHOST",
            "https://cp.example:5682/ursa/",
            "https://192.0.2.1",
        ] {
            assert!(api_url(url).is_ok(), "{url}");
        }
        for url in [
            "http://cp.example:5681",
            "http://192.0.2.1",
            "http://127.0.0.1.evil.example",
            "http://localhost.evil.example",
            "http://0.0.0.0:5681",
            "http://[::]:5681",
            "http://[::ffff:192.0.2.1]",
            "http://127.0.0.1@evil.example",
            "ftp://127.0.0.1",
            "127.0.0.1:5681",
            "cp.example",
            "https://cp.example?x",
            "https://cp.example#x",
            "",
        ] {
            let error = api_url(url).unwrap_err();
            assert!(error.is::<crate::failure::Usage>(), "{url}: {error}");
        }
        assert!(api_url("http://192.0.2.1").unwrap_err().to_string().contains("loopback"));
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        let error = api_url("https://u:hunter2@cp.example").unwrap_err().to_string();
        assert!(error.contains("password") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn what_is_said_closer_wins_and_a_foreign_url_gets_no_token_of_the_config() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        let known = config::ControlPlane {
            name: "a".into(),
            url: "https://a.example".into(),
            ca_file: Some("/a/ca".into()),
            token_file: "/a/token".into(),
        };
        Config { current: Some("a".into()), control_planes: vec![known] }.save(&path).unwrap();
        let common = |api: Option<&str>, token: Option<&str>| Common {
            config_file: Some(path.clone()),
            api: api.map(str::to_owned),
            token_file: token.map(PathBuf::from),
            ca_file: None,
            mesh: None,
            output: crate::args::Output::Table,
        };
        let none = Environment::default();
        let all = Environment {
            api: Some("https://e.example".into()),
            token_file: Some("/e/token".into()),
            ..Environment::default()
        };
        let found = |common, environment| {
            let Access { url, token_file, ca_file } = Access::find(&common, environment).unwrap();
            (url.host_str().unwrap().to_owned(), token_file, ca_file)
        };
        let a_ca = Some(PathBuf::from("/a/ca"));
        assert_eq!(found(common(None, None), &none), ("a.example".into(), "/a/token".into(), a_ca.clone()));
        assert_eq!(found(common(None, Some("/t")), &none), ("a.example".into(), "/t".into(), a_ca));
        assert_eq!(found(common(None, None), &all), ("e.example".into(), "/e/token".into(), None));
        assert_eq!(
            found(common(Some("https://f.example"), Some("/f")), &all),
            ("f.example".into(), "/f".into(), None)
        );
        let refused = Access::find(&common(Some("https://f.example"), None), &none).unwrap_err();
        assert!(refused.to_string().contains("--token-file"), "{refused}");
    }
}
