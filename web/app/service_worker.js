// Keeps the page for use without a network. What it keeps stands in the line above, which the program writes: KEPT, with a
// version that changes with any file, so that the browser installs this script anew.

const PREFIX = `fd_keras ${self.registration.scope} `; // other pages on the same server keep their own
const PATIENCE = 3000; // milliseconds that the network has where a file is kept already

async function install() {
  const cache = await caches.open(PREFIX + KEPT.version);
  await cache.addAll(["./", ...KEPT.files].map((name) => new Request(name, { cache: "no-cache" })));
  await self.skipWaiting();
}

async function activate() {
  const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== PREFIX + KEPT.version);
  await Promise.all(old.map((name) => caches.delete(name)));
  await self.clients.claim();
}

/** A model's address has its hash, so it is never old. Of all else the network has the first word. */
async function answer(request) {
  const cache = await caches.open(PREFIX + KEPT.version);
  const found = await cache.match(request, { ignoreSearch: true });
  if (found && request.url.startsWith(`${self.registration.scope}models/`)) return found;
  try {
    return await fetch(request, found ? { signal: AbortSignal.timeout(PATIENCE) } : {});
  } catch (error) {
    if (found) return found;
    throw error;
  }
}

/** Keeps what the page loaded before this script ran: the build of the runtime that its browser takes. */
async function keep(addresses) {
  const cache = await caches.open(PREFIX + KEPT.version);
  for (const address of addresses) {
    if (!(await cache.match(address))) await cache.add(address);
  }
}

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(activate()));
self.addEventListener("fetch", (event) => {
  const isOurs = event.request.url.startsWith(self.registration.scope);
  if (isOurs && event.request.method === "GET") event.respondWith(answer(event.request));
});
self.addEventListener("message", (event) => {
  event.waitUntil(keep(event.data).then(() => event.source.postMessage("kept"), () => event.source.postMessage("not kept")));
});
