// Sources of images: files, pasted pictures and the camera; each is {width, height, read, draw, close}.

/** A photo from a file, upright by its EXIF orientation; rejects with a message for the user. */
export async function fromFile(file, mostPixels) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Error(`${file.name || "This file"} is not an image that this browser can decode. Try a JPEG or PNG file.`);
  }
  if (bitmap.width * bitmap.height > mostPixels) {
    const { width, height } = bitmap;
    bitmap.close();
    throw new Error(`${file.name || "This picture"} has ${width} x ${height} pixels (limit ${mostPixels}). Scale it down first.`);
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

/** A camera; a frame from `grab` stays the same until the next `grab`. */
export class Camera {
  constructor(video) {
    this.video = video;
    this.canvas = document.createElement("canvas");
    this.context = this.canvas.getContext("2d", { willReadFrequently: true, alpha: false });
    this.facing = "environment";
  }

  /** Starts the camera; rejects with a message for the user. `onLost` is called when it is disconnected. */
  async start(onLost) {
    this.stop();
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("The camera works only over https or on localhost. Open this page that way, or use a photo.");
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

  /** Whether this is a front camera, whose image people expect to be mirrored. */
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

  /** Whether a frame is available. */
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
    NotAllowedError: "Camera access is blocked. Allow it in the browser's site settings (the icon beside the address), or use a photo.",
    NotFoundError: "No camera found. Connect one, or use a photo.",
    OverconstrainedError: "No suitable camera found. Use a photo.",
    NotReadableError: "Another program is using the camera. Close that program and start the camera again.",
  };
  return reasons[name] ?? `The camera cannot be started (${message}). Use a photo.`;
}
