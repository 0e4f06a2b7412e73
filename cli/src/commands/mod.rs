//! One module a command.

pub(crate) mod adopt;
pub(crate) mod apply;
pub(crate) mod backup;
pub(crate) mod completion;
pub(crate) mod control_planes;
pub(crate) mod delete;
pub(crate) mod generate;
pub(crate) mod get;
pub(crate) mod inspect;
pub(crate) mod install;
pub(crate) mod revoke;
pub(crate) mod version;
pub(crate) mod zone;

use crate::access::Access;
use crate::args::Common;
use crate::client::Client;
use crate::environment::Environment;

/// The control plane that the command line, the environment or the config file names.
fn connect(common: &Common, environment: &Environment) -> anyhow::Result<Client> {
    Client::new(&Access::find(common, environment)?)
}
