// Where images come from: files, pasted pictures and the camera. Each is a source {width, height, read, draw}.

/** A photo from a file, upright by its EXIF orientation; rejects with a sentence. */
export async function fromFile(file, mostPixels) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Error(`${file.name || "This file"} is not a picture that this browser can read. Try a JPEG or PNG file.`);
  }
  if (bitmap.width * bitmap.height > mostPixels) {
    const { width, height } = bitmap;
    bitmap.close();
    throw new Error(`${file.name || "This picture"} has ${width} x ${height} pixels, more than ${mostPixels}. Scale it down first.`);
  }
  return fromBitmap(bitmap);
}

function fromBitmap(bitmap) {
  const canvas = new OffscreenCanvas(1, 1);
  const context = canvas.getContext("2d", { willReadFrequently: true, alpha: true });
  return {
    width: bitmap.width,
    height: bitmap.height,
    read(x, y, width, height) {
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      context.clearRect(0, 0, width, height);
      context.drawImage(bitmap, x, y, width, height, 0, 0, width, height);
      return context.getImageData(0, 0, width, height).data;
    },
    draw: (target, width, height) => target.drawImage(bitmap, 0, 0, width, height),
    close: () => bitmap.close(),
  };
}

/** The frames of a camera; `grab` takes the next one, which then stays the same until the next `grab`. */
export class Camera {
  constructor(video) {
    this.video = video;
    this.canvas = document.createElement("canvas");
    this.context = this.canvas.getContext("2d", { willReadFrequently: true, alpha: false });
    this.facing = "environment";
  }

  /** Starts the camera; rejects with a sentence. `onLost` is called when it goes away by itself. */
  async start(onLost) {
    this.stop();
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("The camera works on https and on localhost only. Open this page so, or use a photo.");
    }
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        audio: false,
        video: { facingMode: this.facing, width: { ideal: 960 }, height: { ideal: 720 } },
      });
    } catch (error) {
      throw new Error(reason(error));
    }
    this.track.addEventListener("ended", () => { this.stop(); onLost(); });
    this.video.srcObject = this.stream;
    await this.video.play();
  }

  get track() {
    return this.stream?.getVideoTracks()[0];
  }

  get isOn() {
    return Boolean(this.stream);
  }

  /** Whether the picture is that of a front camera, which people expect to see as in a mirror. */
  get isMirrored() {
    return this.track?.getSettings().facingMode === "user";
  }

  get hasTorch() {
    return Boolean(this.track?.getCapabilities?.().torch);
  }

  async setTorch(on) {
    await this.track?.applyConstraints({ advanced: [{ torch: on }] });
  }

  turn() {
    this.facing = this.facing === "user" ? "environment" : "user";
  }

  stop() {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = null;
    this.video.srcObject = null;
  }

  /** Whether a frame is there. */
  get isReady() {
    return this.isOn && this.video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA && this.video.videoWidth > 0;
  }

  /** The current frame as a source. */
  grab() {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    this.context.drawImage(this.video, 0, 0);
    return {
      width,
      height,
      read: (x, y, w, h) => this.context.getImageData(x, y, w, h).data,
      draw: (target, w, h) => target.drawImage(this.canvas, 0, 0, w, h),
      close() {},
    };
  }
}

function reason({ name, message }) {
  const reasons = {
    NotAllowedError: "The camera is not allowed. Allow it for this page in the browser's settings (the sign beside the address), or use a photo.",
    NotFoundError: "No camera was found. Connect one, or use a photo.",
    OverconstrainedError: "No camera was found that fits. Use a photo.",
    NotReadableError: "The camera is in use by another program. Close that program and start the camera again.",
  };
  return reasons[name] ?? `The camera cannot be started (${message}). Use a photo.`;
}
