"use strict";
// The viewer's shaders: bodies, skinned if they are tracks, and the ground.

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

// The ground: squares of half a metre that fade with the distance from the people.
const GROUND_VERTEX = `#version 300 es
in vec2 corner; uniform mat4 view, projection; uniform vec3 middle; uniform float reach;
out vec2 place, away;
void main() {
  away = corner;
  place = middle.xz + corner * reach;
  gl_Position = projection * (view * vec4(place.x, middle.y, place.y, 1.0));
}`;
const GROUND_FRAGMENT = `#version 300 es
precision highp float;
in vec2 place, away; out vec4 result;
void main() {
  vec2 squares = place * 2.0;
  vec2 step_ = max(fwidth(squares), 1e-4), off = abs(fract(squares - 0.5) - 0.5) / step_;
  // Lines closer than a few pixels would become a grey area.
  float line = (1.0 - min(min(off.x, off.y) / 1.2, 1.0))
    * (1.0 - smoothstep(0.15, 0.4, max(step_.x, step_.y)));
  float shown = (0.14 + 0.36 * line) * (1.0 - smoothstep(0.35, 1.0, length(away)));
  result = vec4(vec3(0.5) * shown, shown);
}`;

function programOf(gl, vertex, fragment, attributes) {
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  attributes.forEach((name, place) => gl.bindAttribLocation(program, place, name));
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    throw new Error("This browser cannot draw in 3D: " + gl.getProgramInfoLog(program));
  }
  return program;
}

function uniformsOf(gl, program, names) {
  return Object.fromEntries(names.map((name) => [name, gl.getUniformLocation(program, name)]));
}
