"use strict";
// A small WebGL 2 viewer: bodies in glTF's frame (y up, z towards the viewer), an orbiting camera,
// one draw call for each body. Tracks are skinned in the vertex shader.

const VERTEX = `#version 300 es
in vec3 position; in vec3 normal; in vec4 joint; in vec4 weight;
uniform vec3 low, size; uniform mat4 view, projection; uniform bool skinned; uniform vec4 bones[72];
out vec3 facing;
void main() {
  vec4 point = vec4(low + position * size, 1.0);
  vec3 outward = normal;
  if (skinned) {
    vec4 row0 = vec4(0.0), row1 = vec4(0.0), row2 = vec4(0.0);
    vec4 share = weight / dot(weight, vec4(1.0));
    for (int i = 0; i < 4; i++) {
      int first = 3 * int(joint[i] + 0.5);
      row0 += share[i] * bones[first];
      row1 += share[i] * bones[first + 1];
      row2 += share[i] * bones[first + 2];
    }
    point = vec4(dot(row0, point), dot(row1, point), dot(row2, point), 1.0);
    outward = vec3(dot(row0.xyz, outward), dot(row1.xyz, outward), dot(row2.xyz, outward));
  }
  facing = mat3(view) * outward;
  gl_Position = projection * (view * point);
}`;

// The same lights as in the overlay; they move with the camera.
const FRAGMENT = `#version 300 es
precision highp float;
in vec3 facing; uniform vec3 colour; out vec4 result;
void main() {
  vec3 n = normalize(facing);
  float light = 0.22 + 0.62 * max(dot(n, normalize(vec3(-0.5, 0.7, 0.6))), 0.0)
    + 0.22 * max(dot(n, normalize(vec3(0.8, 0.1, 0.5))), 0.0) + 0.18 * max(n.z, 0.0);
  result = vec4(min(colour * light, 1.0), 1.0);
}`;

const FIELD_OF_VIEW = 0.5;
const NEAREST = 0.25, FARTHEST = 6;

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

class Viewer {
  constructor(canvas) {
    this.canvas = canvas;
    this.bodies = [];
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
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    ["position", "normal", "joint", "weight"].forEach(
      (name, place) => gl.bindAttribLocation(program, place, name));
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
      throw new Error("This browser cannot draw in 3D: " + gl.getProgramInfoLog(program));
    }
    gl.useProgram(program);
    gl.enable(gl.DEPTH_TEST);
    this.uniforms = {};
    for (const name of ["low", "size", "view", "projection", "skinned", "bones", "colour"]) {
      this.uniforms[name] = gl.getUniformLocation(program, name);
    }
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
    if (about.skin) {
      store(gl.ARRAY_BUFFER, new Uint8Array(bytesOf(about.skin)));
      attribute(2, 4, gl.UNSIGNED_BYTE, false, 8, 0);
      attribute(3, 4, gl.UNSIGNED_BYTE, true, 8, 4);
    }
    store(gl.ELEMENT_ARRAY_BUFFER, faces);
    gl.bindVertexArray(null);
    return {
      array, buffers, low: about.low, size: about.size, count: faces.length,
      // A track's bounds are those of all poses; its vertices are in the rest pose.
      bounds: about.bounds || [about.low, about.low.map((value, k) => value + about.size[k])],
      type: about.wide ? gl.UNSIGNED_INT : gl.UNSIGNED_SHORT,
      colour: person.colour.map((value) => value / 255),
      matrices: about.matrices ? new Float32Array(bytesOf(about.matrices)) : null,
    };
  }

  reset() {
    this.yaw = 0; this.pitch = 0; this.zoom = 1;
    const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    this.bodies.forEach((body, i) => {
      if (!this.shown[i]) return;
      for (let k = 0; k < 3; k++) {
        low[k] = Math.min(low[k], body.bounds[0][k]);
        high[k] = Math.max(high[k], body.bounds[1][k]);
      }
    });
    const there = low[0] < high[0];
    this.middle = there ? low.map((value, k) => (value + high[k]) / 2) : [0, 0, 0];
    this.extent = there ? low.map((value, k) => Math.max(0.2, (high[k] - value) / 2)) : [1, 1, 1];
    this.redraw();
  }

  turn(yaw, pitch) {
    this.yaw += yaw;
    this.pitch = Math.max(-1.5, Math.min(1.5, this.pitch + pitch));
    this.redraw();
  }

  lookFrom(yaw) { this.yaw = yaw; this.pitch = 0; this.redraw(); }

  zoomBy(factor) {
    this.zoom = Math.max(NEAREST, Math.min(FARTHEST, this.zoom * factor));
    this.redraw();
  }

  redraw() {
    if (this.waiting || !this.gl) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  // View and projection matrices, by columns.
  cameras() {
    const aspect = this.canvas.width / this.canvas.height, slope = Math.tan(FIELD_OF_VIEW / 2);
    const [x, y, z] = this.extent, round = Math.hypot(x, z);
    // Room for all turns: seen from the side, a body is at most its diagonal from above wide.
    const distance = (1.08 * Math.max(y, round / aspect) / slope + round) / this.zoom;
    const far = distance + 4 * Math.hypot(x, y, z), near = Math.max(0.01, distance / 50);
    const projection = [1 / slope / aspect, 0, 0, 0, 0, 1 / slope, 0, 0,
      0, 0, (near + far) / (near - far), -1, 0, 0, 2 * near * far / (near - far), 0];
    const cy = Math.cos(this.yaw), sy = Math.sin(this.yaw);
    const cp = Math.cos(this.pitch), sp = Math.sin(this.pitch);
    const rows = [[cy, 0, sy], [sp * sy, cp, -sp * cy], [-cp * sy, sp, cp * cy]];
    const m = this.middle;
    const moved = rows.map((r) => -(r[0] * m[0] + r[1] * m[1] + r[2] * m[2]));
    moved[2] -= distance;
    const view = [0, 1, 2].flatMap((k) => [rows[0][k], rows[1][k], rows[2][k], 0]);
    return [[...view, ...moved, 1], projection];
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
    gl.bindVertexArray(null);
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
