// Runs in the page: reports a missing camera, and lets boxes be drawn on the photograph.

// gradio 6.31 shows no message if there is no camera or another program uses it.
addEventListener("unhandledrejection", event => {
  const reasons = {
    NotFoundError: "No camera was found; drop a photograph instead.",
    NotReadableError: "The camera cannot be used; another program may be using it.",
    OverconstrainedError: "No camera was found that can be used; drop a photograph instead.",
  };
  const picture = document.querySelector("#picture");
  const reason = event.reason instanceof DOMException && reasons[event.reason.name];
  if (!picture || !reason) return;
  event.preventDefault();
  document.querySelector("#no-camera")?.remove();
  const message = document.createElement("p");
  Object.assign(message, {id: "no-camera", className: "problem", textContent: reason});
  message.setAttribute("role", "alert");
  picture.after(message);
  picture.addEventListener("click", () => message.remove(), {once: true});
  picture.addEventListener("change", () => message.remove(), {once: true});
});

// The text field holds the boxes: x0,y0,x1,y1 in the file's pixels, one person a line. A layer on
// the photograph shows them and adds those that are dragged.
(() => {
  const SMALLEST = 8; // CSS pixels a side: less is a click
  const MOST = 20;
  let shown = "";

  const field = () => document.querySelector("#boxes textarea");
  const photograph = () => document.querySelector("#shown .photograph");
  const lines = () => field().value.split(/[;\n]/).filter(line => line.trim());

  function writeLines(all) {
    const area = field();
    area.value = all.join("\n");
    area.dispatchEvent(new Event("input", {bubbles: true}));
    refresh();
  }

  // Width and height of the photograph in the file's pixels.
  const fileSize = image => [Number(image.dataset.width), Number(image.dataset.height)];

  function place(element, box, [width, height]) {
    const [x0, y0, x1, y1] = box;
    Object.assign(element.style, {
      left: `${100 * x0 / width}%`,
      top: `${100 * y0 / height}%`,
      width: `${100 * (x1 - x0) / width}%`,
      height: `${100 * (y1 - y0) / height}%`,
    });
  }

  function addBox(layer, box, size) {
    const element = document.createElement("div");
    element.className = "drawn";
    place(element, box, size);
    layer.append(element);
    return element;
  }

  function addRemover(element, number) {
    const button = document.createElement("button");
    Object.assign(button, {type: "button", textContent: "×"});
    button.setAttribute("aria-label", `Remove box ${number}`);
    button.addEventListener("click", () => {
      const all = lines();
      all.splice(number, 1);
      writeLines(all);
    });
    element.append(button);
  }

  function startDrag(layer, size, event) {
    if (event.target !== layer || event.button !== 0 || lines().length >= MOST) return;
    event.preventDefault();
    layer.setPointerCapture(event.pointerId);
    const at = ({clientX, clientY}) => {
      const {left, top, width, height} = layer.getBoundingClientRect();
      const part = value => Math.min(Math.max(value, 0), 1);
      return [part((clientX - left) / width) * size[0], part((clientY - top) / height) * size[1]];
    };
    const first = at(event);
    const element = addBox(layer, [...first, ...first], size);
    const boxTo = ([x, y]) => [Math.min(first[0], x), Math.min(first[1], y),
      Math.max(first[0], x), Math.max(first[1], y)];
    const move = moved => place(element, boxTo(at(moved)), size);
    const end = ended => {
      layer.removeEventListener("pointermove", move);
      layer.removeEventListener("pointerup", end);
      layer.removeEventListener("pointercancel", end);
      const {width, height} = element.getBoundingClientRect();
      element.remove();
      if (ended.type === "pointerup" && Math.min(width, height) >= SMALLEST) {
        writeLines([...lines(), boxTo(at(ended)).map(Math.round).join(",")]);
      }
    };
    layer.addEventListener("pointermove", move);
    layer.addEventListener("pointerup", end);
    layer.addEventListener("pointercancel", end);
  }

  function refresh() {
    const frame = photograph(), area = field();
    const layer = frame?.querySelector(".drawing");
    if (!frame || !area) {
      layer?.remove();
      return;
    }
    if (layer && shown === area.value) return;
    layer?.remove();
    shown = area.value;
    const size = fileSize(frame.querySelector("img"));
    const next = document.createElement("div");
    next.className = "drawing";
    lines().forEach((line, number) => {
      const box = line.trim().split(/[,\s]+/).map(Number);
      if (box.length === 4 && box.every(Number.isFinite)) {
        addRemover(addBox(next, box, size), number);
      }
    });
    next.addEventListener("pointerdown", event => startDrag(next, size, event));
    frame.append(next);
  }

  // gradio gives no event when it replaces the photograph or the text.
  setInterval(refresh, 200);
})();
