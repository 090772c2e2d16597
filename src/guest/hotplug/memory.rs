//! Memory, by the host's numbers of its devices, which the kernel does not know: it numbers blocks of addresses. So
//! which blocks are a device's is concluded from the order of calls: those that are offline when it is to be online,
//! and nobody else's. What the VM was booted with is never taken out of service.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{appears, Hotplug, HotplugError};
use crate::blocking;

const WHAT: &str = "memory block";

/// As `ONLINE` and `OFFLINE`, it is written to `memoryN/state` (memory-hotplug.rst). Movable: the kernel keeps nothing of
/// its own there, so that it can be taken out of service again.
const ONLINE_MOVABLE: &str = "online_movable";
const ONLINE: &str = "online";
const OFFLINE: &str = "offline";

/// What there is of memory, and what of it can be had without taking it from anybody (proc_meminfo(5)).
const MEMINFO: &str = "/proc/meminfo";

/// What has to be left when memory is taken out of service. The kernel's own reserves are not in what it calls available,
/// so this is for PID 1 and a runc or two.
const LEFT_BYTES: u64 = 32 << 20;

/// The number of a block, and of a device.
type BlockId = u32;
type Slot = u32;

/// A block of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    id: BlockId,
    online: bool,
}

/// The memory that was added since the boot, and for which device it was put into service. Pure.
#[derive(Debug, Default)]
pub(super) struct Added {
    boot: Vec<BlockId>,
    owners: Vec<(BlockId, Slot)>,
}

impl Added {
    /// Online blocks are what the VM was booted with. Those that are offline belong to devices that were there before.
    pub(super) fn since(blocks: &[Block]) -> Added {
        let boot = blocks.iter().filter(|block| block.online).map(|block| block.id).collect();
        Added { boot, owners: Vec::new() }
    }

    /// The blocks that are `slot`'s once it is online: all that are offline; else those it has already, or that the
    /// kernel has put online by itself. `None` if there is nothing of it yet.
    fn to_online(&self, slot: Slot, blocks: &[Block]) -> Option<Vec<BlockId>> {
        let offline: Vec<BlockId> =
            blocks.iter().filter(|block| !block.online).map(|block| block.id).collect();
        if offline.is_empty() {
            self.to_offline(slot, blocks)
        } else {
            Some(offline)
        }
    }

    /// The blocks that are `slot`'s: those that were put into service for it; else what was added and is nobody's.
    fn to_offline(&self, slot: Slot, blocks: &[Block]) -> Option<Vec<BlockId>> {
        let added = || blocks.iter().map(|block| block.id).filter(|id| !self.boot.contains(id));
        let of =
            |owner: Option<Slot>| -> Vec<BlockId> { added().filter(|id| self.owner(*id) == owner).collect() };
        [of(Some(slot)), of(None)].into_iter().find(|blocks| !blocks.is_empty())
    }

    fn owner(&self, block: BlockId) -> Option<Slot> {
        self.owners.iter().find(|(owned, _)| *owned == block).map(|(_, slot)| *slot)
    }

    fn claim(&mut self, slot: Slot, blocks: Vec<BlockId>) {
        self.owners.retain(|(owned, _)| !blocks.contains(owned));
        self.owners.extend(blocks.into_iter().map(|block| (block, slot)));
    }

    /// They may be unplugged now, and others may come with the same numbers.
    fn release(&mut self, slot: Slot) {
        self.owners.retain(|(_, owner)| *owner != slot);
    }
}

impl Hotplug {
    /// Puts all memory into service that is there and is not, and waits for a device that is about to be plugged. All
    /// of it or nothing. Done if the memory of `slot` is in service already.
    pub async fn online_memory(&self, slot: u32) -> Result<(), HotplugError> {
        let mut added = self.0.added.lock().await;
        let path = &self.0.memory;
        let found = appears("memory", || added.to_online(slot, &blocks(path))).await?;
        let Some(mut owned) = found else {
            return Err(HotplugError::Late { what: WHAT, id: slot, path: path.clone() });
        };
        let dir = path.clone();
        let set = blocking::run("putting memory online", move || online_all(&dir)).await?;
        let set = set.map_err(|failed| failed.of(slot))?;
        tracing::info!(slot, blocks = ?set, "memory online");
        owned.extend(set);
        added.claim(slot, owned);
        Ok(())
    }

    /// Takes the memory of `slot` out of service, so that it can be unplugged. All of it or nothing. Done if it is out
    /// of service already.
    pub async fn offline_memory(&self, slot: u32) -> Result<(), HotplugError> {
        let mut added = self.0.added.lock().await;
        let Some(owned) = added.to_offline(slot, &blocks(&self.0.memory)) else {
            return Err(HotplugError::Absent { what: WHAT, id: slot });
        };
        let dir = self.0.memory.clone();
        let set = blocking::run("taking memory offline", move || offline_all(&dir, &owned)).await?;
        let set = set.map_err(|failed| failed.of(slot))?;
        tracing::info!(slot, blocks = ?set, "memory offline");
        added.release(slot);
        Ok(())
    }
}

/// A block that did not change; those before it are as they were. `ENOMEM`: there is no room for what is in it.
#[derive(Debug)]
struct Failed {
    path: PathBuf,
    source: io::Error,
}

impl Failed {
    /// The kernel says EBUSY of memory that it cannot move elsewhere.
    fn of(self, slot: Slot) -> HotplugError {
        let Failed { path, source } = self;
        match source.raw_os_error() {
            Some(libc::EBUSY) => HotplugError::InUse(slot),
            Some(libc::ENOMEM) => HotplugError::Needed(slot),
            _ => HotplugError::Write { what: WHAT, id: slot, path, source },
        }
    }
}

/// All blocks, in the order of their numbers; none where the kernel knows no memory hotplug. Reads what the kernel has
/// in its memory.
pub(super) fn blocks(dir: &Path) -> Vec<Block> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let block = |entry: fs::DirEntry| {
        let id = entry.file_name().to_str()?.strip_prefix("memory")?.parse().ok()?;
        // A block may go while this looks.
        let state = fs::read_to_string(entry.path().join("state")).ok()?;
        Some(Block { id, online: state.trim() != OFFLINE })
    };
    let mut blocks: Vec<Block> = entries.filter_map(block).collect();
    blocks.sort_unstable_by_key(|block| block.id);
    blocks
}

/// Gives the blocks it has put online. The kernel makes the blocks of a device one by one, and a change waits until it
/// has made all of them: so it looks again after changes.
fn online_all(dir: &Path) -> Result<Vec<BlockId>, Failed> {
    let mut done = Vec::new();
    loop {
        let left = |block: &Block| !block.online && !done.contains(&block.id);
        let fresh: Vec<BlockId> = blocks(dir).into_iter().filter(left).map(|block| block.id).collect();
        if fresh.is_empty() {
            return Ok(done);
        }
        for id in fresh {
            if let Err(failed) = put_online(dir, id) {
                for id in done {
                    undo(set(dir, id, OFFLINE));
                }
                return Err(failed);
            }
            done.push(id);
        }
    }
}

/// Gives the blocks it has taken offline: from the highest, so that what stays is one piece.
///
/// The kernel tries to move what is in them for as long as there is no room for it, and has processes killed for that; if
/// that does not help it panics (offline_pages in mm/memory_hotplug.c, out_of_memory in mm/oom_kill.c).
fn offline_all(dir: &Path, ids: &[BlockId]) -> Result<Vec<BlockId>, Failed> {
    let wanted = |block: &Block| block.online && ids.contains(&block.id);
    let online: Vec<BlockId> = blocks(dir).into_iter().filter(wanted).map(|block| block.id).collect();
    if let Some(id) = online.iter().find(|id| is_fixed(dir, **id)) {
        return Err(Failed { path: block_dir(dir, *id), source: io::Error::from_raw_os_error(libc::EBUSY) });
    }
    if let Some(id) = online.first().filter(|_| !can_spare(dir, online.len())) {
        return Err(Failed { path: block_dir(dir, *id), source: io::Error::from_raw_os_error(libc::ENOMEM) });
    }
    let mut done = Vec::new();
    for id in online.into_iter().rev() {
        if let Err(failed) = set(dir, id, OFFLINE) {
            for id in done {
                undo(put_online(dir, id));
            }
            return Err(failed);
        }
        done.push(id);
    }
    Ok(done)
}

/// Whether so many blocks less are enough, as far as the kernel tells.
fn can_spare(dir: &Path, blocks: usize) -> bool {
    let read = |path: PathBuf| fs::read_to_string(path).ok();
    let (meminfo, block) = (read(MEMINFO.into()), read(dir.join("block_size_bytes")));
    let told = meminfo.as_deref().and_then(available).zip(block.as_deref().and_then(block_bytes));
    told.is_none_or(|(available, block)| available >= block * blocks as u64 + LEFT_BYTES)
}

fn available(meminfo: &str) -> Option<u64> {
    let kib = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(kib.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
}

/// It is told in hexadecimal digits (memory-hotplug.rst).
fn block_bytes(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim(), 16).ok()
}

/// What the kernel needs itself. Newer kernels say of no block that it is, and find out when they are asked to move it.
fn is_fixed(dir: &Path, id: BlockId) -> bool {
    fs::read_to_string(block_dir(dir, id).join("removable")).is_ok_and(|text| text.trim() == "0")
}

/// It is refused as movable where the neighbouring memory is not (EINVAL), and then serves for everything.
fn put_online(dir: &Path, id: BlockId) -> Result<(), Failed> {
    match set(dir, id, ONLINE_MOVABLE) {
        Err(failed) if failed.source.raw_os_error() == Some(libc::EINVAL) => set(dir, id, ONLINE),
        done => done,
    }
}

fn set(dir: &Path, id: BlockId, state: &str) -> Result<(), Failed> {
    let path = block_dir(dir, id).join("state");
    fs::write(&path, state).map_err(|source| Failed { path, source })
}

fn undo(done: Result<(), Failed>) {
    if let Err(Failed { path, source }) = done {
        tracing::warn!(path = %path.display(), error = %source, "a block of memory is not as it was");
    }
}

fn block_dir(dir: &Path, id: BlockId) -> PathBuf {
    dir.join(format!("memory{id}"))
}

#[cfg(test)]
mod tests;
