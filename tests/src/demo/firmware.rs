//! The firmware update of the guide (`docs/examples/firmware_update`) on each machine of the
//! demo: a simulated flash, an image that proves itself and one that does not.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const WORKFLOW: &str = include_str!("../../../docs/examples/firmware_update/firmware_update.toml");
const CARD: &str = include_str!("../../../docs/examples/firmware_update/firmware_update.json");
const PROGRAM: &str = include_str!("../../../docs/examples/firmware_update/firmware.sh");
/// Where the example stands by its own word.
const PLACE: &str = "/etc/quarterdeck/workflows";

/// The image that is kept, and the one that the device goes back from.
pub const IMAGES: [(&str, &str); 2] = [("good", "version=2\n"), ("broken", "version=3\nbroken\n")];

/// Lays it out in a machine's folder; gives the folder of its workflows.
pub fn lay_out(machine: &Path) -> Result<PathBuf> {
    let (workflows, flash) = (machine.join("workflows"), machine.join("firmware"));
    for folder in [&workflows, &flash] {
        fs::create_dir_all(folder)?;
    }
    let here = workflows.display().to_string();
    fs::write(workflows.join("firmware_update.toml"), WORKFLOW.replace(PLACE, &here))?;
    let program = workflows.join("firmware.sh");
    fs::write(&program, PROGRAM)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let restart = machine.join("reboot");
    let conf = format!("FLASH='{}'\nRESTART=\"touch {}\"\n", flash.display(), restart.display());
    fs::write(workflows.join("firmware.conf"), conf)?;
    fs::write(flash.join("a"), "version=1\n")?;
    fs::write(flash.join("active"), "a\n")?;
    for (name, image) in IMAGES {
        fs::write(flash.join(name), image)?;
    }
    fs::write(workflows.join("firmware_update.json"), card(&flash)?.to_string())?;
    Ok(workflows)
}

/// The card of the example, with the good image filled in.
fn card(flash: &Path) -> Result<Value> {
    let mut card: Value = serde_json::from_str(CARD)?;
    let fields = &mut card["form_schema"]["properties"];
    for (name, value) in payload(flash, "good").as_object().into_iter().flatten() {
        fields[name.as_str()]["default"] = value.clone();
    }
    Ok(card)
}

/// What a command for one of the images says.
pub fn payload(flash: &Path, image: &str) -> Value {
    let known = IMAGES.into_iter().find(|(name, _)| *name == image);
    let content = known.map(|(_, content)| content).unwrap_or_default();
    let version = content.lines().next().and_then(|line| line.strip_prefix("version="));
    json!({
        "version": version, "url": flash.join(image), "sha256": format!("{:x}", Sha256::digest(content))
    })
}
