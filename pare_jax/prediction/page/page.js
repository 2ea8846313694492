// The page's script: the dialog with the viewer, the tables of joints, and the filter. Tables are
// made when they are opened. All text is set as text, never as markup.

const byId = (id) => document.getElementById(id);
const run = JSON.parse(byId("run").textContent);
const viewer = new Viewer(byId("viewer-canvas"));
let scene = null, playing = false, clock = 0, before = 0;

function make(tag, text, parent) {
  const element = document.createElement(tag);
  if (text !== null) element.textContent = text;
  if (parent) parent.append(element);
  return element;
}

function open(number) {
  scene = run.scenes[number];
  byId("viewer-title").textContent = scene.title;
  byId("viewer").showModal();
  const problem = byId("viewer-problem"), moving = Boolean(scene.frames);
  problem.hidden = true;
  byId("viewer-time").hidden = !moving;
  try {
    viewer.frame = 0;
    viewer.show(scene.people);
  } catch (error) {
    problem.textContent = error.message;
    problem.hidden = false;
    return;
  }
  people();
  if (moving) {
    const range = byId("viewer-frame");
    range.min = scene.frames[0];
    range.max = scene.frames.at(-1);
    seek(scene.frames[0]);
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    play(scene.frames.length > 1 && !still);
  }
  viewer.canvas.focus();
}

function people() {
  const row = byId("viewer-people");
  const shown = scene.people.filter((person) => person.body);
  row.replaceChildren();
  row.hidden = shown.length < 2;
  byId("viewer-whose").textContent = shown[0].label;
  if (row.hidden) return;
  const choose = (button, number) => {
    for (const other of row.children) other.setAttribute("aria-pressed", other === button);
    byId("viewer-whose").textContent = shown[number || 0].label;
    viewer.only(number);
  };
  const everyone = make("button", "everyone", row);
  everyone.addEventListener("click", () => choose(everyone, null));
  shown.forEach((person, i) => {
    const button = make("button", person.label, row);
    button.style.borderBottom = `.25rem solid rgb(${person.colour.join()})`;
    button.addEventListener("click", () => choose(button, i));
  });
  for (const button of row.children) button.type = "button";
  choose(everyone, null);
}

function seek(frame) {
  clock = frame;
  // The latest frame that shows the person.
  let place = 0;
  while (place + 1 < scene.frames.length && scene.frames[place + 1] <= frame) place++;
  byId("viewer-frame").value = Math.floor(frame);
  byId("viewer-clock").textContent = `${(frame / scene.rate).toFixed(2)} s`;
  viewer.showFrame(place);
}

function play(on) {
  playing = on;
  byId("viewer-play").textContent = on ? "Pause" : "Play";
  before = performance.now();
  if (on) requestAnimationFrame(tick);
}

function tick(now) {
  if (!playing || !byId("viewer").open) return;
  const first = scene.frames[0], length = scene.frames.at(-1) + 1 - first;
  const passed = Math.max(0, now - before) / 1000 * scene.rate;
  before = now;
  seek(first + (clock - first + passed) % length);
  requestAnimationFrame(tick);
}

function fill(details) {
  const shown = run.scenes[Number(details.dataset.joints)];
  for (const person of shown.people) {
    make("h3", `${person.label}, box ${person.box.join(", ")} px`, details);
    const frame = make("div", null, details);
    frame.className = "scroll";
    frame.tabIndex = 0;
    const table = make("table", null, frame);
    table.setAttribute("aria-label", `joints of ${person.label}`);
    const head = make("tr", null, make("thead", null, table));
    for (const title of ["joint", "x px", "y px", "right m", "down m", "forward m"]) {
      make("th", title, head).scope = "col";
    }
    const body = make("tbody", null, table);
    person.joints.forEach((numbers, joint) => {
      const line = make("tr", null, body);
      make("th", run.joints[joint], line).scope = "row";
      // `|| 0` turns -0 into 0.
      const shown = (value, i) => i < 2 ? String(Math.round(value) || 0) : value.toFixed(3);
      numbers.forEach((value, i) => make("td", shown(value, i), line));
    });
  }
  const note = make("p", "Pixels of the photograph; metres from the pelvis along the camera's axes.",
    details);
  note.className = "hint";
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-scene]");
  if (button) open(Number(button.dataset.scene));
});
for (const details of document.querySelectorAll("details[data-joints]")) {
  details.addEventListener("toggle", () => fill(details), { once: true });
}
byId("viewer-close").addEventListener("click", () => byId("viewer").close());
byId("viewer").addEventListener("close", () => { playing = false; });
byId("viewer").addEventListener("click", (event) => {
  // A click outside of the dialog closes it.
  if (event.target === byId("viewer")) {
    const box = byId("viewer").getBoundingClientRect();
    const inside = event.clientX >= box.left && event.clientX <= box.right
      && event.clientY >= box.top && event.clientY <= box.bottom;
    if (!inside) byId("viewer").close();
  }
});
byId("viewer-reset").addEventListener("click", () => viewer.reset());
byId("viewer-in").addEventListener("click", () => viewer.zoomBy(1.25));
byId("viewer-out").addEventListener("click", () => viewer.zoomBy(0.8));
for (const button of document.querySelectorAll("button[data-look]")) {
  button.addEventListener("click", () => viewer.lookFrom(button.dataset.look));
}
byId("viewer-play").addEventListener("click", () => play(!playing));
byId("viewer-frame").addEventListener("input", (event) => {
  play(false);
  seek(Number(event.target.value));
});
byId("viewer").addEventListener("keydown", (event) => {
  const typing = event.target.matches("input");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const actions = {
    ArrowLeft: () => viewer.turn(-0.15, 0), ArrowRight: () => viewer.turn(0.15, 0),
    ArrowUp: () => viewer.turn(0, -0.15), ArrowDown: () => viewer.turn(0, 0.15),
    "+": () => viewer.zoomBy(1.25), "=": () => viewer.zoomBy(1.25), "-": () => viewer.zoomBy(0.8),
    0: () => viewer.reset(),
  };
  if (scene.frames && !event.target.matches("button")) actions[" "] = () => play(!playing);
  const action = actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});
const filter = byId("filter");
if (filter) {
  const cards = [...document.querySelectorAll(".card")];
  filter.addEventListener("input", () => {
    const part = filter.value.trim().toLowerCase();
    let count = 0;
    for (const card of cards) {
      card.hidden = !card.querySelector("h2").textContent.toLowerCase().includes(part);
      count += card.hidden ? 0 : 1;
    }
    byId("shown").textContent = part ? `${count} of ${cards.length}` : "";
  });
}
