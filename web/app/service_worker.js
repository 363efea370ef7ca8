// Caches the page for offline use. `fd-keras page` writes the line above: KEPT, the files to cache and a version that
// changes with any of them, so that the browser installs this script again.

const PREFIX = `fd_keras ${self.registration.scope} `; // other pages on the same server have their own
const PATIENCE = 3000; // milliseconds to wait for the network where a file is cached

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

/** A model's address has its hash, so that a cached model is never outdated. Other files come from the network first. */
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

/** Caches what the page loaded before this script ran: the build of the runtime that the browser chose. */
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
