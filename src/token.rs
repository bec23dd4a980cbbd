//! `token`: who may use the API. Whoever can open the stores can make tokens; the first one has to come from here or from
//! the dashboard of a server that listens to this machine alone.

use gristmill_api::{TokenError, Tokens};
use gristmill_protocol::Timestamp;
use gristmill_protocol::api::{NewToken, TokenItem};
use serde_json::json;

use crate::cli::{TokenArgs, TokenCommand};
use crate::home::Home;
use crate::problem::{Exit, Problem};
use crate::settings::Settings;
use crate::text::{self, Table};

/// Tokens that are read at a time.
const PAGE: usize = 500;

/// `gristmill token …`.
pub async fn token(settings: &Settings, args: TokenArgs) -> anyhow::Result<Exit> {
    let home = Home::open(settings).await?;
    let tokens = Tokens::new(home.state.clone());
    match args.command {
        TokenCommand::Create { name, role, namespaces, expires_days, json } => {
            let new = NewToken { name, role: role.into(), namespaces, expires_days };
            let made = tokens.create(new, &crate::who()).await.map_err(explained)?;
            if json {
                println!("{}", json!({ "id": made.id, "token": made.token }));
            } else {
                println!("{}", made.token);
                eprintln!("it is shown this once; `gristmill token revoke {}` ends it", made.id);
            }
        }
        TokenCommand::List { json } => {
            let mut all: Vec<TokenItem> = Vec::new();
            loop {
                let after = all.last().map(|token| token.id.clone()).unwrap_or_default();
                let page = tokens.list(&after, PAGE).await.map_err(explained)?;
                let is_last = page.len() < PAGE;
                all.extend(page);
                if is_last {
                    break;
                }
            }
            if json {
                println!("{:#}", json!(all));
            } else {
                print!("{}", list_text(&all, home.state.clock().await?.now));
            }
        }
        TokenCommand::Revoke { id } => {
            tokens.revoke(&id).await.map_err(explained)?;
            println!("token {id} is revoked");
        }
    }
    Ok(Exit::Success)
}

fn list_text(all: &[TokenItem], now: Timestamp) -> String {
    if all.is_empty() {
        return "there are no tokens\nhint: `gristmill token create NAME --role viewer` makes one\n".to_owned();
    }
    let mut table = Table::new(&["id", "name", "role", "namespaces", "made", "ends"]);
    for token in all {
        let ends = match token.expires_ms {
            None => "never".to_owned(),
            Some(at) if at <= now.0 => "has ended".to_owned(),
            Some(at) => text::moment(Timestamp(at)),
        };
        let made = format!("{} by {}", text::ago(Timestamp(token.created_ms), now), token.by);
        let (name, role) = (token.name.clone(), token.role.as_str().to_owned());
        table.row([token.id.clone(), name, role, token.namespaces.join(", "), made, ends]);
    }
    table.to_string()
}

fn explained(error: TokenError) -> anyhow::Error {
    match error {
        TokenError::Bad(text) => Problem::usage(text).into(),
        TokenError::None(_) => Problem::usage(error.to_string()).hint("`gristmill token list` lists them").into(),
        error => error.into(),
    }
}
