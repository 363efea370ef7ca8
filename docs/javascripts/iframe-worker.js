// Workers for pages opened from a folder. Browsers refuse `new Worker` there, and the theme's search runs in one, so the
// script runs in a hidden frame instead. On a web server this does nothing.

if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    onmessage = null;

    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.scope = frame.contentWindow;
      this.scope.postMessage = (data) => this.receive(data);
      this.scope.importScripts = (...addresses) => Promise.all(addresses.map((each) => this.load(each)));
      this.ready = this.load(address);
    }

    /** Runs a script in the frame. */
    load(address) {
      return new Promise((done, fail) => {
        const script = this.scope.document.createElement("script");
        Object.assign(script, { src: new URL(address, document.baseURI), onload: done, onerror: fail });
        this.scope.document.body.append(script);
      });
    }

    postMessage(data) {
      this.ready.then(() => this.scope.dispatchEvent(new this.scope.MessageEvent("message", { data })));
    }

    receive(data) {
      const event = new MessageEvent("message", { data });
      this.dispatchEvent(event);
      this.onmessage?.(event);
    }

    terminate() {
      this.scope.frameElement.remove();
    }
  };
}
