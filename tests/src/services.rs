//! Services of a test's own, for those that kill them.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rivulet_sandbox::Sandbox;

/// A directory for services that share the checkout's downloads. They end with it.
pub struct OwnServices(PathBuf);

impl OwnServices {
    /// # Errors
    /// The directory cannot be made.
    pub fn new(name: &str) -> Result<Self> {
        let name = format!("{name}-{}", std::process::id());
        // target/debug/deps/TEST, and Cargo's directory for tests is target/tmp.
        let test = std::env::current_exe()?;
        let target = test.ancestors().nth(3).context("no target directory")?;
        let services = Self(target.join("tmp").join(name));
        services.sandbox()?;
        let tools = services.0.join("tools");
        fs::remove_dir(&tools)?;
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        let tools_of = checkout.context("no checkout")?.join(".dev/tools");
        symlink(tools_of.canonicalize()?, tools)?;
        Ok(services)
    }

    /// # Errors
    /// The directory is gone.
    pub fn sandbox(&self) -> Result<Sandbox> {
        Sandbox::at(&self.0)
    }

    /// A path that is gone with the services.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for OwnServices {
    fn drop(&mut self) {
        if let Ok(sandbox) = self.sandbox() {
            // A runtime of its own: the test's may be the one that this blocks.
            let down = std::thread::spawn(move || {
                let runtime = tokio::runtime::Runtime::new()?;
                runtime.block_on(sandbox.down(true))
            });
            let _ = down.join();
        }
        // Where root's checkout is out of the servers' reach, the directory is a link.
        let real = self.0.canonicalize().unwrap_or_default();
        let _ = fs::remove_dir_all(real);
        let _ = fs::remove_file(&self.0);
    }
}
