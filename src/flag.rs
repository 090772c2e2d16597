//! Flags that turn true once and stay so: a stop, an end, a client that has gone. It knows nothing of what they mean.

use tokio::sync::watch;

/// Waits until the flag is true, at once if it is already. That nobody can raise it any more counts the same: whoever
/// could is gone, and with it what the flag was about. Cancel safe.
pub async fn raised(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|raised| *raised).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_flag_is_waited_for_until_it_is_raised_or_dropped() {
        let (flag, mut seen) = watch::channel(false);
        tokio::select! {
            biased;
            () = raised(&mut seen) => unreachable!("nobody has raised it"),
            () = std::future::ready(()) => {}
        }
        flag.send_replace(true);
        raised(&mut seen).await;
        flag.send_replace(false);
        drop(flag);
        raised(&mut seen).await;
    }
}
