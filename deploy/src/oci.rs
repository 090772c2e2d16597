//! Packs a folder as an OCI image of one layer: a tar file that `ctr image import` and `docker load` take. The same folder
//! gives the same bytes, whoever owns it and whenever it was made. It never compresses, and never looks into a registry.
//!
//! Layout, manifest and configuration: OCI image specification 1.0, image-layout.md, manifest.md and config.md.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::{json, Value};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A full name, as containerd keeps it: `docker.io/vminit/busybox:latest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    repository: String,
    tag: String,
}

/// Why a text is no such name.
#[derive(Debug, thiserror::Error)]
#[error("a name has the form HOST/REPOSITORY:TAG")]
pub struct NameError;

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        let (repository, tag) = text.rsplit_once(':').ok_or(NameError)?;
        match repository.contains('/') && !tag.is_empty() && !tag.contains('/') {
            true => Ok(Name { repository: repository.to_owned(), tag: tag.to_owned() }),
            false => Err(NameError),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

/// Why no image could be built.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("read {path}")]
    Read { path: PathBuf, source: io::Error },
    /// Only folders, files and symbolic links are packed.
    #[error("pack {path}: it is no folder, file or link")]
    Kind { path: PathBuf },
    #[error("pack {path}")]
    Pack { path: PathBuf, source: io::Error },
}

/// Builds the image of a folder, as bytes. Blocks for the files, and holds them all in memory.
///
/// # Errors
/// The first entry that cannot be read or packed.
pub fn build(rootfs: &Path, name: &Name) -> Result<Vec<u8>, ImageError> {
    let layer = Blob::new(LAYER, layer(rootfs)?);
    let config = Blob::json(CONFIG, &config(&layer));
    let manifest = Blob::json(
        MANIFEST,
        &json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(),
            "layers": [layer.descriptor()],
        }),
    );
    let mut archive = Archive::default();
    archive.file("oci-layout", 0o644, json!({"imageLayoutVersion": "1.0.0"}).to_string().as_bytes())?;
    archive.file("index.json", 0o644, index(&manifest, name).to_string().as_bytes())?;
    archive.file("manifest.json", 0o644, dockers_index(&config, &layer, name).to_string().as_bytes())?;
    archive.folder("blobs", 0o755)?;
    archive.folder("blobs/sha256", 0o755)?;
    for blob in [manifest, config, layer] {
        archive.file(blob.path(), 0o644, &blob.bytes)?;
    }
    archive.end()
}

/// What is in the layout. containerd takes the whole name from its own annotation; the other one is the specification's.
fn index(manifest: &Blob, name: &Name) -> Value {
    let mut entry = manifest.descriptor();
    entry["annotations"] = json!({
        "io.containerd.image.name": name.to_string(),
        "org.opencontainers.image.ref.name": name.tag,
    });
    json!({"schemaVersion": 2, "manifests": [entry]})
}

/// The same for a docker that does not keep its images in containerd (moby, image/spec/spec.md, "Combined Image JSON").
fn dockers_index(config: &Blob, layer: &Blob, name: &Name) -> Value {
    json!([{"Config": config.path(), "RepoTags": [name.to_string()], "Layers": [layer.path()]}])
}

/// The layer is not compressed, so its digest is also that of its content.
fn config(layer: &Blob) -> Value {
    json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Cmd": ["/bin/sh"],
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.digest()]},
    })
}

/// Bytes that are named by their digest.
struct Blob {
    media_type: &'static str,
    hex: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(media_type: &'static str, bytes: Vec<u8>) -> Blob {
        Blob { media_type, hex: format!("{:x}", Sha256::digest(&bytes)), bytes }
    }

    /// The members of an object are sorted, so the text does not depend on anything else.
    fn json(media_type: &'static str, value: &Value) -> Blob {
        Blob::new(media_type, value.to_string().into_bytes())
    }

    fn digest(&self) -> String {
        format!("sha256:{}", self.hex)
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.hex)
    }

    fn descriptor(&self) -> Value {
        json!({"mediaType": self.media_type, "digest": self.digest(), "size": self.bytes.len()})
    }
}

/// The folder's content as a layer.
fn layer(rootfs: &Path) -> Result<Vec<u8>, ImageError> {
    let mut archive = Archive::default();
    add_below(&mut archive, rootfs, Path::new(""))?;
    archive.end()
}

/// Adds what is in the folder `rootfs/inside`, in the order of the names.
fn add_below(archive: &mut Archive, rootfs: &Path, inside: &Path) -> Result<(), ImageError> {
    let folder = rootfs.join(inside);
    let failed = |source| ImageError::Read { path: folder.clone(), source };
    let names: io::Result<Vec<_>> =
        fs::read_dir(&folder).map_err(failed)?.map(|entry| entry.map(|entry| entry.file_name())).collect();
    let mut names = names.map_err(failed)?;
    names.sort_unstable();
    for name in names {
        add(archive, rootfs, &inside.join(name))?;
    }
    Ok(())
}

fn add(archive: &mut Archive, rootfs: &Path, inside: &Path) -> Result<(), ImageError> {
    let path = rootfs.join(inside);
    let failed = |source| ImageError::Read { path: path.clone(), source };
    let metadata = path.symlink_metadata().map_err(failed)?;
    if metadata.is_dir() {
        archive.folder(inside, mode(&metadata))?;
        add_below(archive, rootfs, inside)
    } else if metadata.is_file() {
        archive.file(inside, mode(&metadata), &fs::read(&path).map_err(failed)?)
    } else if metadata.is_symlink() {
        archive.link(inside, &fs::read_link(&path).map_err(failed)?)
    } else {
        Err(ImageError::Kind { path })
    }
}

/// Permissions and the set-user-id, set-group-id and sticky bits.
fn mode(metadata: &Metadata) -> u32 {
    metadata.permissions().mode() & 0o7777
}

/// A tar file whose entries all belong to root and are as old as the epoch.
struct Archive(Builder<Vec<u8>>);

impl Default for Archive {
    fn default() -> Archive {
        Archive(Builder::new(Vec::new()))
    }
}

impl Archive {
    fn folder(&mut self, path: impl AsRef<Path>, mode: u32) -> Result<(), ImageError> {
        let packed = self.0.append_data(&mut header(EntryType::Directory, mode, 0), &path, io::empty());
        packed.map_err(|source| failed(path.as_ref(), source))
    }

    fn file(&mut self, path: impl AsRef<Path>, mode: u32, bytes: &[u8]) -> Result<(), ImageError> {
        let packed = self.0.append_data(&mut header(EntryType::Regular, mode, bytes.len()), &path, bytes);
        packed.map_err(|source| failed(path.as_ref(), source))
    }

    fn link(&mut self, path: impl AsRef<Path>, target: &Path) -> Result<(), ImageError> {
        let packed = self.0.append_link(&mut header(EntryType::Symlink, 0o777, 0), &path, target);
        packed.map_err(|source| failed(path.as_ref(), source))
    }

    fn end(self) -> Result<Vec<u8>, ImageError> {
        self.0.into_inner().map_err(|source| failed(Path::new("the end"), source))
    }
}

fn failed(path: &Path, source: io::Error) -> ImageError {
    ImageError::Pack { path: path.to_owned(), source }
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size as u64);
    header
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::Permissions;
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use tempfile::TempDir;

    use super::*;

    /// A small tree; what differs between two of them is only their time and place.
    fn tree() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        fs::create_dir(folder.path().join("tmp")).unwrap();
        fs::write(folder.path().join("bin/busybox"), "program").unwrap();
        for (path, mode) in [("bin", 0o755), ("tmp", 0o1777), ("bin/busybox", 0o755)] {
            fs::set_permissions(folder.path().join(path), Permissions::from_mode(mode)).unwrap();
        }
        symlink("busybox", folder.path().join("bin/sh")).unwrap();
        folder
    }

    fn name() -> Name {
        "docker.io/vminit/busybox:latest".parse().unwrap()
    }

    /// An entry: its kind, mode, owner, time, target and content.
    type Entry = (EntryType, u32, (u64, u64), u64, Option<PathBuf>, Vec<u8>);

    fn entries(archive: &[u8]) -> BTreeMap<String, Entry> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_str().unwrap().trim_end_matches('/').to_owned();
            let target = entry.link_name().unwrap().map(|target| target.into_owned());
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let header = entry.header();
            let owner = (header.uid().unwrap(), header.gid().unwrap());
            let entry = (
                header.entry_type(),
                header.mode().unwrap(),
                owner,
                header.mtime().unwrap(),
                target,
                content,
            );
            (path, entry)
        });
        entries.collect()
    }

    fn parsed(entries: &BTreeMap<String, Entry>, path: &str) -> Value {
        serde_json::from_slice(&entries[path].5).unwrap()
    }

    /// The bytes that a descriptor stands for, with its size and digest compared.
    fn blob<'a>(entries: &'a BTreeMap<String, Entry>, descriptor: &Value) -> &'a [u8] {
        let hex = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let bytes = &entries[&format!("blobs/sha256/{hex}")].5;
        assert_eq!(format!("{:x}", Sha256::digest(bytes)), hex);
        assert_eq!(descriptor["size"], bytes.len());
        bytes
    }

    #[test]
    fn the_layout_leads_from_its_index_to_the_layer() {
        let folder = tree();
        let image = entries(&build(folder.path(), &name()).unwrap());
        assert_eq!(parsed(&image, "oci-layout"), json!({"imageLayoutVersion": "1.0.0"}));
        let index = parsed(&image, "index.json");
        let entry = &index["manifests"][0];
        assert_eq!(entry["annotations"]["io.containerd.image.name"], "docker.io/vminit/busybox:latest");
        assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], "latest");
        let manifest: Value = serde_json::from_slice(blob(&image, entry)).unwrap();
        let config: Value = serde_json::from_slice(blob(&image, &manifest["config"])).unwrap();
        let layer = &manifest["layers"][0];
        assert_eq!(config["rootfs"]["diff_ids"], json!([layer["digest"]]));
        assert!(entries(blob(&image, layer)).contains_key("bin/busybox"));
    }

    #[test]
    fn docker_finds_config_and_layer_by_its_own_index() {
        let folder = tree();
        let image = entries(&build(folder.path(), &name()).unwrap());
        let index = &parsed(&image, "manifest.json")[0];
        assert_eq!(index["RepoTags"], json!(["docker.io/vminit/busybox:latest"]));
        let config = parsed(&image, index["Config"].as_str().unwrap());
        let layer = index["Layers"][0].as_str().unwrap();
        let digest = layer.replace("blobs/sha256/", "sha256:");
        assert_eq!(config["rootfs"]["diff_ids"], json!([digest]));
        assert!(image.contains_key(layer));
    }

    #[test]
    fn the_layer_has_the_folders_content_as_roots() {
        let folder = tree();
        let layer = entries(&layer(folder.path()).unwrap());
        let root = (0, 0);
        let expected: BTreeMap<String, Entry> = [
            ("bin", (EntryType::Directory, 0o755, root, 0, None, vec![])),
            ("bin/busybox", (EntryType::Regular, 0o755, root, 0, None, b"program".to_vec())),
            ("bin/sh", (EntryType::Symlink, 0o777, root, 0, Some("busybox".into()), vec![])),
            ("tmp", (EntryType::Directory, 0o1777, root, 0, None, vec![])),
        ]
        .map(|(path, entry)| (path.to_owned(), entry))
        .into();
        assert_eq!(layer, expected);
    }

    #[test]
    fn the_same_tree_gives_the_same_image() {
        let (one, other) = (tree(), tree());
        assert!(build(one.path(), &name()).unwrap() == build(other.path(), &name()).unwrap());
    }

    #[test]
    fn what_cannot_be_packed_is_named() {
        let folder = tree();
        let path = folder.path().join("socket");
        let _listener = UnixListener::bind(&path).unwrap();
        let Err(ImageError::Kind { path: named }) = build(folder.path(), &name()) else { panic!("built") };
        assert_eq!(named, path);
        assert!(matches!(build(Path::new("/no/such"), &name()), Err(ImageError::Read { .. })));
    }

    #[test]
    fn a_name_has_host_repository_and_tag() {
        assert_eq!(name().to_string(), "docker.io/vminit/busybox:latest");
        for text in ["busybox", "busybox:latest", "docker.io/busybox", "localhost:5000/busybox", "a/b:"] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
    }
}
