//! The Bundle service.

use async_trait::async_trait;
use ttrpc::r#async::TtrpcContext;
use vminitd_api::bundle::{CreateRequest, CreateResponse};
use vminitd_api::bundle_ttrpc::Bundle;

use crate::guest::freeze::Freezer;
use crate::task::{ContainerId, FileName, FileNameError, Tasks};

pub struct BundleService {
    tasks: Tasks,
    freezer: Freezer,
}

impl BundleService {
    pub fn new(tasks: Tasks, freezer: Freezer) -> BundleService {
        BundleService { tasks, freezer }
    }
}

#[async_trait]
impl Bundle for BundleService {
    async fn create(&self, _ctx: &TtrpcContext, req: CreateRequest) -> ttrpc::Result<CreateResponse> {
        let id = ContainerId::parse(&req.id)?;
        let file = |(name, content): (String, Vec<u8>)| Ok((FileName::parse(&name)?, content));
        let files = req.files.into_iter().map(file).collect::<Result<_, FileNameError>>()?;
        let _writing = self.freezer.write()?;
        let path = self.tasks.make_bundle(&id, files).await?;
        let bundle = path.to_string_lossy().into_owned();
        Ok(CreateResponse { bundle, ..Default::default() })
    }
}
