// The sigma explorer's controls and pictures, in one inlined module with explorer_maths.js: no kernel, no network.

const sigmaControl = (id) => `
  <div class="sigma-main">
    <label for="${id}-sigma">σ, spread of the frequencies</label>
    <output for="${id}-sigma"></output>
    <input id="${id}-sigma" name="sigma" type="range" min="-2" max="2" step="0.05" value="0">
    <div class="sigma-ticks">
      <span>0.01</span>
      ${[0.1, 1, 10].map((sigma) => `<button type="button" name="preset" value="${sigma}">${sigma}</button>`).join("")}
      <span>100</span>
    </div>
  </div>`;

const otherControls = (id) => `
  <div class="sigma-controls">
    <p><label for="${id}-k">k, frequencies</label> <output for="${id}-k"></output>
      <input id="${id}-k" name="k" type="range" min="8" max="256" step="8" value="128"></p>
    <p><label for="${id}-seed">Seed</label>
      <input id="${id}-seed" name="seed" type="number" min="0" max="9999" step="1" value="0" inputmode="numeric"></p>
    <p><label for="${id}-encoding">Encoding</label>
      <select id="${id}-encoding" name="encoding">
        <option value="one-hot">one-hot</option>
        <option value="rff" selected>random Fourier</option>
        <option value="continuous">continuous (its cosine is a sign)</option>
      </select></p>
    <p><label for="${id}-range">Scaling of p</label>
      <select id="${id}-range" name="valueRange">
        <option value="symmetric">[−1, 1]</option>
        <option value="unit">[0, 1]</option>
      </select></p>
  </div>
  <p><a class="sigma-link">Link to this setting</a></p>`;

const pictures = `
  <p class="sigma-numbers"></p>
  <p class="sigma-spoken" role="status"></p>
  <div class="sigma-panels">
    <figure>
      <canvas class="sigma-map" role="img" width="${VALUES}" height="${VALUES}"></canvas>
      <figcaption>
        Cosine similarity of the values i (down) and j (across).
        <span class="sigma-scale">−1 <canvas width="${VALUES}" height="1" aria-hidden="true"></canvas> 1</span>
      </figcaption>
    </figure>
    <figure>
      <svg class="sigma-profile" role="img" viewBox="0 0 320 320"></svg>
      <figcaption>Mean similarity at distance |i − j|. Dashed: on average, exp(−2π²σ²δ²).</figcaption>
    </figure>
  </div>
  <div class="sigma-pictures"></div>
  <p class="sigma-caption">
    A photograph and single features of its pixels, each colour channel by itself; grey is 0.
  </p>`;

const decode = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));

const packed = (red, green, blue) => (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
const level = (number) => Math.min(255, Math.max(0, Math.round((number + 1) * 127.5))); // -1..1 to 0..255

function paint(canvas, packedAt) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  for (let at = 0; at < pixels.length; at++) pixels[at] = packedAt(at);
  context.putImageData(image, 0, 0);
}

function drawProfile({ profile, expected, halfWidth }) {
  const x = (distance) => 44 + (distance * 252) / (VALUES - 1);
  const y = (similarity) => 148 - similarity * 132;
  const points = (pairs) => pairs.map(([distance, s]) => `${x(distance).toFixed(1)},${y(s).toFixed(1)}`).join(" ");
  const line = (name, pairs) => `<polyline class="${name}" points="${points(pairs)}"/>`;
  const curve = (name, values) => line(name, Array.from(values, (s, distance) => [distance, s]));
  const text = (at, s, anchor, words) =>
    `<text x="${at}" y="${y(s)}" dy="0.35em" text-anchor="${anchor}">${words}</text>`;
  return [
    ...[1, 0.5, 0, -0.5, -1].map((s) => line("grid", [[0, s], [255, s]]) + text(38, s, "end", minus(`${s}`))),
    ...[0, 64, 128, 192, 255].map((distance) => text(x(distance), -1.14, "middle", distance)),
    halfWidth === null ? "" : line("mark", [[halfWidth, -1], [halfWidth, 0.5]]),
    expected ? curve("expected", expected) : "",
    curve("drawn", profile),
  ].join("");
}

function drawPictures(photo, side, pictured) {
  const picture = (caption, colourOf) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", caption);
    paint(canvas, (at) => packed(colourOf(photo[3 * at]), colourOf(photo[3 * at + 1]), colourOf(photo[3 * at + 2])));
    const figure = document.createElement("figure");
    figure.append(canvas, Object.assign(document.createElement("figcaption"), { textContent: caption }));
    return figure;
  };
  const original = picture("photograph", (value) => value);
  return [original, ...pictured.map(([caption, feature]) => picture(caption, (value) => level(feature[value])))];
}

const NAMES = ["sigma", "k", "seed", "encoding", "valueRange"];

function mount(root, number) {
  const colourBytes = decode(root.dataset.colours);
  const colours = Uint32Array.from({ length: 256 }, (_, i) => packed(...colourBytes.subarray(3 * i, 3 * i + 3)));
  const photo = decode(root.dataset.photo);
  const id = `sigma-explorer-${number}`;
  root.id = id;
  root.innerHTML = sigmaControl(id) + pictures + otherControls(id);
  const part = (selector) => root.querySelector(selector);
  const [sigma, k, seed, encoding, valueRange] = NAMES.map((name) => part(`[name=${name}]`));
  const presets = root.querySelectorAll("[name=preset]");
  paint(part(".sigma-scale canvas"), (at) => colours[at]);

  const settings = () => ({
    encoding: encoding.value,
    sigma: 10 ** Number(sigma.value),
    k: Number(k.value),
    seed: Math.min(9999, Math.max(0, Math.trunc(Number(seed.value)))),
    valueRange: valueRange.value,
  });

  function sayValues(chosen) {
    const rounded = Number(chosen.sigma.toPrecision(3));
    const says = [[sigma, rounded, `sigma ${rounded}`], [k, chosen.k, `${chosen.k} frequencies`]];
    for (const [control, value, words] of says) {
      control.setAttribute("aria-valuetext", words);
      part(`output[for=${control.id}]`).textContent = value;
    }
    for (const preset of presets) preset.setAttribute("aria-pressed", Number(preset.value) === rounded);
    for (const control of [sigma, k, seed, valueRange, ...presets]) control.disabled = chosen.encoding !== "rff";
    const state = { explorer: number, ...chosen, sigma: rounded };
    part(".sigma-link").href = `?${new URLSearchParams(state)}#${id}`;
  }

  function redraw() {
    const chosen = settings();
    const measured = measure(chosen);
    sayValues(chosen);
    const summary = describe(measured);
    part(".sigma-numbers").textContent = summary;
    part(".sigma-map").setAttribute("aria-label", `Similarity of all pairs of pixel values. ${summary}`);
    part(".sigma-profile").setAttribute("aria-label", `Mean similarity against distance. ${summary}`);
    paint(part(".sigma-map"), (at) => colours[level(measured.similarity[at])]);
    part(".sigma-profile").innerHTML = drawProfile(measured);
    part(".sigma-pictures").replaceChildren(...drawPictures(photo, Number(root.dataset.side), measured.pictured));
  }

  // What the page's address asks for, if it is for this explorer; a control keeps its value where that makes no sense.
  function follow() {
    const asked = new URLSearchParams(location.search);
    if (asked.get("explorer") !== `${number}`) return;
    const isChoice = (select, value) => [...select.options].some((option) => option.value === value);
    for (const select of [encoding, valueRange]) {
      if (isChoice(select, asked.get(select.name))) select.value = asked.get(select.name);
    }
    for (const [control, of] of [[sigma, Math.log10], [k, Number], [seed, Number]]) {
      const value = of(asked.get(control.name) ?? NaN);
      if (Number.isFinite(value)) control.value = value;
    }
  }

  // Spoken when a control is let go, not at every step of a drag.
  const speak = () => { part(".sigma-spoken").textContent = part(".sigma-numbers").textContent; };
  root.addEventListener("input", redraw);
  root.addEventListener("change", speak);
  for (const preset of presets) {
    preset.addEventListener("click", () => { sigma.value = Math.log10(preset.value); redraw(); speak(); });
  }
  follow();
  redraw();
}

// Every explorer brings this script; the first to run mounts them all.
for (const root of document.querySelectorAll(".sigma-explorer:not([data-mounted])")) {
  mount(root, document.querySelectorAll(".sigma-explorer[data-mounted]").length);
  root.dataset.mounted = "";
}
