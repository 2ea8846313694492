// A small WebGL 2 viewer: bodies in glTF's frame (y up, z towards the viewer), an orbiting camera
// that keeps them as large as the view allows, a ground below the lowest point shown, one draw call
// for each body. Tracks are skinned in the vertex shader.

const FIELD_OF_VIEW = 0.5;
const NEAREST = 0.25, FARTHEST = 6;
// Space around the bodies. For measuring them: one vertex in so many, and frames of a track.
const MARGIN = 1.06, MEASURED = 16, MEASURED_FRAMES = 24;
// Metres of ground beyond the people.
const GROUND_BEYOND = 2;
// The viewer stays level up to 60 degrees between the horizontal and the body's axis.
const LEAST_LEVEL = 0.5;

function bytesOf(id) {
  const text = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes.buffer;
}

// Means of the faces' normals, weighted by area, as signed bytes.
function normalsOf(steps, size, faces) {
  const sums = new Float32Array(steps.length), s = size.map((value) => value / 65535);
  for (let f = 0; f < faces.length; f += 3) {
    const a = 3 * faces[f], b = 3 * faces[f + 1], c = 3 * faces[f + 2];
    const ux = (steps[b] - steps[a]) * s[0], vx = (steps[c] - steps[a]) * s[0];
    const uy = (steps[b + 1] - steps[a + 1]) * s[1], vy = (steps[c + 1] - steps[a + 1]) * s[1];
    const uz = (steps[b + 2] - steps[a + 2]) * s[2], vz = (steps[c + 2] - steps[a + 2]) * s[2];
    const x = uy * vz - uz * vy, y = uz * vx - ux * vz, z = ux * vy - uy * vx;
    for (const k of [a, b, c]) { sums[k] += x; sums[k + 1] += y; sums[k + 2] += z; }
  }
  // Four bytes a vertex: attributes of three bytes are slow on some devices.
  const normals = new Int8Array(steps.length / 3 * 4);
  for (let v = 0, n = 0; v < sums.length; v += 3, n += 4) {
    const length = Math.hypot(sums[v], sums[v + 1], sums[v + 2]) || 1;
    for (let i = 0; i < 3; i++) normals[n + i] = Math.round(127 * sums[v + i] / length);
  }
  return normals;
}

// A measured vertex in a frame; a track's vertices are in the rest pose.
function placeOf(body, n, frame) {
  const place = body.places[n], m = body.matrices;
  if (!m) return place;
  const skin = body.skins[n], sum = skin[4] + skin[5] + skin[6] + skin[7], result = [0, 0, 0];
  for (let j = 0; j < 4; j++) {
    const first = 288 * frame + 12 * skin[j], share = skin[4 + j] / sum;
    for (let k = 0; k < 3; k++) {
      const row = first + 4 * k;
      result[k] += share
        * (m[row] * place[0] + m[row + 1] * place[1] + m[row + 2] * place[2] + m[row + 3]);
    }
  }
  return result;
}

// Points that the view must hold: of a track, in frames spread over it.
function outlineOf(body) {
  if (!body.matrices) return body.places;
  const frames = body.matrices.length / 288, step = Math.max(1, frames / MEASURED_FRAMES);
  const points = [];
  for (let frame = 0; frame < frames; frame += step) {
    body.places.forEach((_, n) => points.push(placeOf(body, n, Math.floor(frame))));
  }
  return points;
}

// The root's axes in a frame: columns of a track's first matrix, or a photograph's own.
function axesOf(body, frame) {
  const m = body.matrices, first = 288 * frame;
  const columns = m ? [0, 1, 2].map((k) => [m[first + k], m[first + 4 + k], m[first + 8 + k]])
    : body.axes;
  return { left: columns[0], up: columns[1], front: columns[2] };
}

class Viewer {
  constructor(canvas) {
    this.canvas = canvas;
    this.bodies = [];
    this.shown = [];
    this.frame = 0;
    this.waiting = false;
    this.reset();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.gl = null;
      if (this.people) this.show(this.people);
    });
    new ResizeObserver(() => this.redraw()).observe(canvas);
    this.listen();
  }

  // Makes the context on first use; throws if the browser has none.
  start() {
    if (this.gl) return;
    const gl = this.canvas.getContext("webgl2", { antialias: true, alpha: true });
    if (!gl) throw new Error("This browser cannot draw in 3D here: it offers no WebGL 2.");
    this.program = programOf(gl, VERTEX, FRAGMENT, ["position", "normal", "joint", "weight"]);
    this.uniforms = uniformsOf(gl, this.program,
      ["low", "size", "view", "projection", "skinned", "bones", "colour"]);
    this.groundProgram = programOf(gl, GROUND_VERTEX, GROUND_FRAGMENT, ["corner"]);
    this.groundUniforms = uniformsOf(gl, this.groundProgram,
      ["view", "projection", "middle", "reach"]);
    this.groundArray = gl.createVertexArray();
    gl.bindVertexArray(this.groundArray);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), gl.STATIC_DRAW);
    gl.enableVertexAttribArray(0);
    gl.vertexAttribPointer(0, 2, gl.FLOAT, false, 0, 0);
    gl.bindVertexArray(null);
    gl.enable(gl.DEPTH_TEST);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.gl = gl;
  }

  // Decodes and shows the people of one of the page's scenes.
  show(people) {
    this.start();
    this.clear();
    this.people = people;
    this.bodies = people.filter((person) => person.body).map((person) => this.load(person));
    this.shown = this.bodies.map(() => true);
    this.reset();
  }

  only(number) {
    this.shown = this.bodies.map((_, i) => number === null || i === number);
    this.reset();
  }

  clear() {
    for (const body of this.bodies) {
      this.gl.deleteVertexArray(body.array);
      body.buffers.forEach((buffer) => this.gl.deleteBuffer(buffer));
    }
    this.bodies = [];
  }

  load(person) {
    const gl = this.gl, about = person.body, buffers = [];
    const steps = new Uint16Array(bytesOf(about.vertices));
    const bytes = bytesOf(about.faces);
    const faces = about.wide ? new Uint32Array(bytes) : new Uint16Array(bytes);
    const store = (target, values) => {
      buffers.push(gl.createBuffer());
      gl.bindBuffer(target, buffers.at(-1));
      gl.bufferData(target, values, gl.STATIC_DRAW);
    };
    const attribute = (place, size, type, normalised, stride, offset) => {
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, size, type, normalised, stride, offset);
    };
    const array = gl.createVertexArray();
    gl.bindVertexArray(array);
    // Four steps a vertex, so that each starts at a multiple of four bytes.
    const padded = new Uint16Array(steps.length / 3 * 4);
    for (let v = 0, p = 0; v < steps.length; v += 3, p += 4) {
      padded[p] = steps[v]; padded[p + 1] = steps[v + 1]; padded[p + 2] = steps[v + 2];
    }
    store(gl.ARRAY_BUFFER, padded);
    attribute(0, 3, gl.UNSIGNED_SHORT, true, 8, 0);
    store(gl.ARRAY_BUFFER, normalsOf(steps, about.size, faces));
    attribute(1, 3, gl.BYTE, true, 4, 0);
    const skin = about.skin ? new Uint8Array(bytesOf(about.skin)) : null;
    if (skin) {
      store(gl.ARRAY_BUFFER, skin);
      attribute(2, 4, gl.UNSIGNED_BYTE, false, 8, 0);
      attribute(3, 4, gl.UNSIGNED_BYTE, true, 8, 4);
    }
    store(gl.ELEMENT_ARRAY_BUFFER, faces);
    gl.bindVertexArray(null);
    const measured = [];
    for (let v = 0; v < steps.length / 3; v += MEASURED) measured.push(v);
    const places = measured.map((v) => [0, 1, 2].map(
      (k) => about.low[k] + about.size[k] * steps[3 * v + k] / 65535));
    const body = {
      array, buffers, low: about.low, size: about.size, count: faces.length,
      places, skins: skin && measured.map((v) => skin.subarray(8 * v, 8 * v + 8)),
      axes: about.axes,
      type: about.wide ? gl.UNSIGNED_INT : gl.UNSIGNED_SHORT,
      colour: person.colour.map((value) => value / 255),
      matrices: about.matrices ? new Float32Array(bytesOf(about.matrices)) : null,
    };
    body.outline = outlineOf(body);
    return body;
  }

  reset() {
    this.side = "camera"; this.yaw = 0; this.pitch = 0; this.zoom = 1;
    const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    this.outline = this.bodies.filter((_, i) => this.shown[i]).flatMap((body) => body.outline);
    for (const point of this.outline) {
      for (let k = 0; k < 3; k++) {
        low[k] = Math.min(low[k], point[k]);
        high[k] = Math.max(high[k], point[k]);
      }
    }
    const there = low[0] < high[0];
    this.middle = there ? low.map((value, k) => (value + high[k]) / 2) : [0, 0, 0];
    this.extent = there ? low.map((value, k) => Math.max(0.2, (high[k] - value) / 2)) : [1, 1, 1];
    this.redraw();
  }

  // The height of the lowest point of the bodies as they are drawn.
  lowest() {
    let result = Infinity;
    this.bodies.forEach((body, i) => {
      if (!this.shown[i]) return;
      body.places.forEach((_, n) => {
        result = Math.min(result, placeOf(body, n, this.frame)[1]);
      });
    });
    return result;
  }

  turn(yaw, pitch) {
    this.side = "camera";
    this.yaw += yaw;
    this.pitch = Math.max(-1.5, Math.min(1.5, this.pitch + pitch));
    this.redraw();
  }

  // Looks from "camera", or at the first shown person from the "front", the "left" or the "back",
  // also while the person turns; the views of `pare_jax.rendering.overlay.own_views`.
  lookFrom(side) {
    this.side = side;
    const body = this.bodies.find((_, i) => this.shown[i]);
    this.yaw = 0; this.pitch = 0;
    if (side !== "camera" && body) {
      const { left, up, front } = axesOf(body, this.frame);
      const [x, y, z] = { left, front, back: front.map((value) => -value) }[side];
      if (Math.hypot(x, z) >= LEAST_LEVEL) this.yaw = Math.atan2(-x, z);
      else {
        const above = Math.sign(y);
        this.pitch = above * Math.PI / 2;
        this.yaw = Math.atan2(above * up[0], -above * up[2]);
      }
    }
    this.redraw();
  }

  showFrame(frame) {
    this.frame = frame;
    if (this.side === "camera") this.redraw();
    else this.lookFrom(this.side);
  }

  zoomBy(factor) {
    this.zoom = Math.max(NEAREST, Math.min(FARTHEST, this.zoom * factor));
    this.redraw();
  }

  redraw() {
    if (this.waiting || !this.gl) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  // View and projection matrices, by columns. The camera is as near as the outline allows.
  cameras() {
    const aspect = this.canvas.width / this.canvas.height, slope = Math.tan(FIELD_OF_VIEW / 2);
    const cy = Math.cos(this.yaw), sy = Math.sin(this.yaw);
    const cp = Math.cos(this.pitch), sp = Math.sin(this.pitch);
    const rows = [[cy, 0, sy], [sp * sy, cp, -sp * cy], [-cp * sy, sp, cp * cy]];
    const along = (r, p) => r[0] * p[0] + r[1] * p[1] + r[2] * p[2];
    const turned = this.outline.map((point) => rows.map((r) => along(r, point)));
    const centre = rows.map((r) => along(r, this.middle));
    for (const k of [0, 1]) {
      let low = Infinity, high = -Infinity;
      for (const point of turned) {
        low = Math.min(low, point[k]);
        high = Math.max(high, point[k]);
      }
      if (low <= high) centre[k] = (low + high) / 2;
    }
    let distance = 0.5;
    for (const [px, py, pz] of turned) {
      const across = Math.max(Math.abs(px - centre[0]) / aspect, Math.abs(py - centre[1]));
      distance = Math.max(distance, pz - centre[2] + MARGIN * across / slope);
    }
    distance /= this.zoom;
    const size = Math.hypot(...this.extent);
    const far = distance + 4 * size + 2 * GROUND_BEYOND, near = Math.max(0.01, distance / 50);
    const projection = [1 / slope / aspect, 0, 0, 0, 0, 1 / slope, 0, 0,
      0, 0, (near + far) / (near - far), -1, 0, 0, 2 * near * far / (near - far), 0];
    const view = [0, 1, 2].flatMap((k) => [rows[0][k], rows[1][k], rows[2][k], 0]);
    return [[...view, -centre[0], -centre[1], -centre[2] - distance, 1], projection];
  }

  draw() {
    const gl = this.gl, ratio = Math.min(2, window.devicePixelRatio || 1);
    const width = Math.round(this.canvas.clientWidth * ratio);
    const height = Math.round(this.canvas.clientHeight * ratio);
    if (!gl || !width || !height) return;
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    gl.viewport(0, 0, width, height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const [view, projection] = this.cameras();
    gl.useProgram(this.program);
    gl.uniformMatrix4fv(this.uniforms.view, false, view);
    gl.uniformMatrix4fv(this.uniforms.projection, false, projection);
    this.bodies.forEach((body, i) => {
      if (!this.shown[i]) return;
      gl.uniform3fv(this.uniforms.low, body.low);
      gl.uniform3fv(this.uniforms.size, body.size);
      gl.uniform3fv(this.uniforms.colour, body.colour);
      gl.uniform1i(this.uniforms.skinned, body.matrices ? 1 : 0);
      if (body.matrices) {
        const first = 288 * this.frame;
        gl.uniform4fv(this.uniforms.bones, body.matrices.subarray(first, first + 288));
      }
      gl.bindVertexArray(body.array);
      gl.drawElements(gl.TRIANGLES, body.count, body.type, 0);
    });
    this.drawGround(view, projection);
    gl.bindVertexArray(null);
  }

  drawGround(view, projection) {
    const gl = this.gl, names = this.groundUniforms, height = this.lowest();
    if (!Number.isFinite(height)) return;
    gl.useProgram(this.groundProgram);
    gl.uniformMatrix4fv(names.view, false, view);
    gl.uniformMatrix4fv(names.projection, false, projection);
    gl.uniform3f(names.middle, this.middle[0], height, this.middle[2]);
    gl.uniform1f(names.reach, Math.hypot(this.extent[0], this.extent[2]) + GROUND_BEYOND);
    gl.bindVertexArray(this.groundArray);
    gl.enable(gl.BLEND);
    gl.depthMask(false);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
    gl.depthMask(true);
    gl.disable(gl.BLEND);
  }

  // One pointer (mouse, pen or finger) turns the body, two zoom.
  listen() {
    const canvas = this.canvas, pointers = new Map();
    const spread = () => {
      const [a, b] = [...pointers.values()];
      return Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, [event.clientX, event.clientY]);
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = pointers.get(event.pointerId);
      if (!before) return;
      const apart = pointers.size === 2 ? spread() : 0;
      pointers.set(event.pointerId, [event.clientX, event.clientY]);
      if (pointers.size === 1) {
        this.turn((event.clientX - before[0]) * 0.01, (event.clientY - before[1]) * 0.01);
      } else if (apart) this.zoomBy(spread() / apart);
    });
    for (const kind of ["pointerup", "pointercancel", "lostpointercapture"]) {
      canvas.addEventListener(kind, (event) => pointers.delete(event.pointerId));
    }
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      // Some mice count lines or pages instead of pixels.
      const pixels = event.deltaY * [1, 16, 400][event.deltaMode];
      this.zoomBy(Math.exp(-Math.max(-200, Math.min(200, pixels)) * 0.002));
    }, { passive: false });
    canvas.addEventListener("dblclick", () => this.reset());
  }
}
