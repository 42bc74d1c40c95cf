// The sigma explorer's controls and pictures, in one inlined module with explorer_maths.js: no kernel, no network.

const controls = (id) => `
  <div class="sigma-controls">
    <p><label for="${id}-sigma">σ, spread of the frequencies</label> <output for="${id}-sigma"></output>
      <input id="${id}-sigma" name="sigma" type="range" min="-2" max="2" step="0.05" value="0"></p>
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
  </div>`;

const pictures = `
  <p class="sigma-numbers"></p>
  <p class="sigma-spoken" role="status"></p>
  <div class="sigma-panels">
    <figure>
      <canvas class="sigma-map" role="img" width="${VALUES}" height="${VALUES}"></canvas>
      <figcaption>
        Cosine similarity of the values i (down) and j (across), 0 at the top left.
        <span class="sigma-scale">−1 <canvas width="${VALUES}" height="1" aria-hidden="true"></canvas> 1</span>
      </figcaption>
    </figure>
    <figure>
      <svg class="sigma-profile" role="img" viewBox="0 0 320 320"></svg>
      <figcaption>
        Mean similarity at distance |i − j|, in levels. Dashed: what random Fourier features give on average,
        exp(−2π²σ²δ²).
      </figcaption>
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
  const x = (distance) => 44 + (distance * 264) / (VALUES - 1);
  const y = (similarity) => 148 - similarity * 132;
  const points = (pairs) => pairs.map(([distance, s]) => `${x(distance).toFixed(1)},${y(s).toFixed(1)}`).join(" ");
  const line = (name, pairs) => `<polyline class="${name}" points="${points(pairs)}"/>`;
  const curve = (name, values) => line(name, Array.from(values, (s, distance) => [distance, s]));
  const text = (at, s, anchor, words) => `<text x="${at}" y="${y(s)}" dy="4" text-anchor="${anchor}">${words}</text>`;
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

function mount(root, number) {
  const colourBytes = decode(root.dataset.colours);
  const colours = Uint32Array.from({ length: 256 }, (_, i) => packed(...colourBytes.subarray(3 * i, 3 * i + 3)));
  const photo = decode(root.dataset.photo);
  root.innerHTML = controls(`sigma-explorer-${number}`) + pictures;
  const part = (selector) => root.querySelector(selector);
  paint(part(".sigma-scale canvas"), (at) => colours[at]);

  function settings() {
    const value = (name) => part(`[name=${name}]`).value;
    const seed = Math.min(9999, Math.max(0, Math.trunc(Number(value("seed")))));
    const sigma = 10 ** Number(value("sigma"));
    return { encoding: value("encoding"), sigma, k: Number(value("k")), seed, valueRange: value("valueRange") };
  }

  function redraw() {
    const chosen = settings();
    const measured = measure(chosen);
    const says = { sigma: Number(chosen.sigma.toPrecision(3)), k: chosen.k };
    for (const [name, text] of Object.entries(says)) {
      part(`[name=${name}]`).setAttribute("aria-valuetext", text);
      part(`output[for$=-${name}]`).textContent = text;
    }
    for (const name of ["sigma", "k", "seed", "valueRange"]) {
      part(`[name=${name}]`).disabled = chosen.encoding !== "rff";
    }
    const summary = describe(measured);
    part(".sigma-numbers").textContent = summary;
    part(".sigma-map").setAttribute("aria-label", `Similarity of all pairs of pixel values. ${summary}`);
    part(".sigma-profile").setAttribute("aria-label", `Mean similarity against distance. ${summary}`);
    paint(part(".sigma-map"), (at) => colours[level(measured.similarity[at])]);
    part(".sigma-profile").innerHTML = drawProfile(measured);
    part(".sigma-pictures").replaceChildren(...drawPictures(photo, Number(root.dataset.side), measured.pictured));
  }

  root.addEventListener("input", redraw);
  // Spoken when a control is let go, not at every step of a drag.
  root.addEventListener("change", () => { part(".sigma-spoken").textContent = part(".sigma-numbers").textContent; });
  redraw();
}

// Every explorer brings this script; the first to run mounts them all.
for (const root of document.querySelectorAll(".sigma-explorer:not([data-mounted])")) {
  mount(root, document.querySelectorAll(".sigma-explorer[data-mounted]").length);
  root.dataset.mounted = "";
}
