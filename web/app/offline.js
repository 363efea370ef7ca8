// Installs the service worker and reports when the page works offline.

export async function keepOffline(onKept) {
  if (!("serviceWorker" in navigator)) return;
  try {
    await navigator.serviceWorker.register("service_worker.js");
    const { active } = await navigator.serviceWorker.ready;
    navigator.serviceWorker.addEventListener("message", ({ data }) => onKept(data === "kept"));
    navigator.serviceWorker.startMessages();
    const scope = new URL("./", location.href).href;
    const loaded = performance.getEntriesByType("resource").map(({ name }) => name);
    active.postMessage(loaded.filter((name) => name.startsWith(`${scope}runtime/`)));
  } catch {
    onKept(false); // as in a private window: the page works, but not offline
  }
}
