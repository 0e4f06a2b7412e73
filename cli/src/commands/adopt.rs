//! `adopt`: zones follow this global control plane in place of another one.

use serde_json::{Value, json};

use crate::args::Common;
use crate::environment::Environment;
use crate::{commands, output};

pub(crate) async fn run(common: &Common, environment: &Environment) -> anyhow::Result<()> {
    let answer = commands::connect(common, environment)?.post(&["adoption"], &json!({})).await?;
    anyhow::ensure!(
        answer["adopted"] == Value::Bool(true),
        "the control plane does not say that it is adopted"
    );
    output::print(&match output::structured(common.output, &answer)? {
        Some(text) => text,
        None => "adopted: zones that followed another global control plane follow this one now; what it does not have, they delete\n"
            .to_owned(),
    })
}
