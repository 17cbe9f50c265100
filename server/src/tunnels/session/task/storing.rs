//! What is written down of a tunnel while it is open.

use quarterdeck_protocol::{
    api::{AuditOutcome, TunnelStatus},
    live::Listing,
    tunnel::session::Mode,
};
use serde_json::json;

use super::Task;
use crate::store::{
    StoreError,
    audit::{Actor, NewEntry},
    recordings,
    tunnels::{self, Progress, Served},
};

impl Task {
    pub(super) async fn store_status(&self, status: TunnelStatus) {
        let (id, port) = (self.session.about.id, self.listen_port);
        let opened = (status == TunnelStatus::Open).then(|| (self.shared.clock.wall(), port));
        let stored = self.shared.store.write(move |tx| {
            Box::pin(async move { tunnels::set_status(tx, id, status, opened).await })
        });
        if let Ok(Err(error)) | Err(error) = stored.await {
            tracing::error!(tunnel_id = %id, %error, "where a tunnel stands could not be stored");
        }
        self.shared.changed(&self.session.about.project, Listing::Tunnels, &id.to_string());
    }

    pub(super) async fn store_progress(&mut self) {
        let (bytes_up, bytes_down) = self.counts();
        let progress = Progress {
            attached: self.consoles.len() as u32,
            bytes_up,
            bytes_down,
            last_activity_at: self.active_at,
        };
        if progress == self.stored {
            return;
        }
        self.stored = progress.clone();
        let about = &self.session.about;
        let (id, recording) = (about.id, about.recording_id.clone());
        let stored = self.shared.store.write(move |tx| {
            Box::pin(async move {
                tunnels::set_progress(tx, id, &progress).await?;
                if let Some(recording) = recording {
                    recordings::set_bytes(tx, &recording, progress.bytes_down).await?;
                }
                Ok::<_, StoreError>(())
            })
        });
        if let Ok(Err(error)) | Err(error) = stored.await {
            tracing::warn!(tunnel_id = %id, %error, "what went through a tunnel could not be stored");
        }
        self.shared.changed(&about.project, Listing::Tunnels, &id.to_string());
    }

    pub(super) async fn store_attach(&self, actor: &Actor, mode: Mode) {
        let Served { id, project, .. } = &self.session.about;
        let (id, project, actor) = (*id, project.clone(), actor.clone());
        let (auditor, at, lives) =
            (self.shared.auditor.clone(), self.shared.clock.wall(), self.input_lives.clone());
        let chain = project.clone();
        let stored = self.shared.store.write(move |tx| {
            Box::pin(async move {
                tunnels::set_input_lives(tx, id, &lives).await?;
                let entry = NewEntry {
                    project: &chain,
                    at,
                    actor: &actor,
                    action: "tunnel.attach",
                    object: format!("tunnel:{id}"),
                    outcome: AuditOutcome::Ok,
                    detail: json!({ "mode": mode }),
                };
                auditor.append(tx, entry).await
            })
        });
        match stored.await {
            Ok(Ok(_)) => self.shared.changed(&project, Listing::Audit, ""),
            Ok(Err(error)) | Err(error) => {
                tracing::error!(tunnel_id = %id, %error, "an attachment could not be recorded");
            }
        }
    }
}
