// The sigma explorer's numbers: isonb.draws and isonb.features, function by function, for a page without a kernel.

const VALUES = 256;
const WORD = (1n << 64n) - 1n;
const GAMMA = 0x9e3779b97f4a7c15n;

// --- isonb.draws ---

function mix(z) {
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & WORD;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & WORD;
  return z ^ (z >> 31n);
}

function crc32(text) {
  let crc = ~0;
  for (const byte of new TextEncoder().encode(text)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (0xedb88320 & -(crc & 1));
  }
  return ~crc >>> 0;
}

function bits(seed, purpose, ...indices) {
  const start = mix((BigInt(seed) * GAMMA + BigInt(crc32(purpose))) & WORD);
  return indices.reduce((key, index) => mix((key + (BigInt(index) + 1n) * GAMMA) & WORD), start);
}

function uniform(...what) {
  return Number(bits(...what) >> 11n) * 2 ** -53;
}

function normal(seed, purpose, ...indices) {
  const radius = Math.sqrt(-2 * Math.log1p(-uniform(seed, purpose + "/radius", ...indices)));
  return radius * Math.cos(2 * Math.PI * uniform(seed, purpose + "/angle", ...indices));
}

// --- isonb.features ---

function tabulate(length, of) {
  const table = new Float64Array(length);
  for (let i = 0; i < length; i++) table[i] = of(i);
  return table;
}

function scaled(value, valueRange) {
  const unit = value / (VALUES - 1);
  return valueRange === "symmetric" ? 2 * unit - 1 : unit;
}

function drawFrequencies(sigma, k, seed) {
  return [...tabulate(k, (i) => sigma * normal(seed, "random Fourier frequencies", i))];
}

// sin a sin b + cos a cos b = cos(a - b): the similarity of random Fourier features is a function of the difference.
function fourierSimilarity(beta, valueRange) {
  const step = 2 * Math.PI * (scaled(1, valueRange) - scaled(0, valueRange));
  const byDistance = tabulate(VALUES, (distance) => {
    return beta.reduce((sum, b) => sum + Math.cos(step * distance * b), 0) / beta.length;
  });
  return (i, j) => byDistance[Math.abs(i - j)];
}

function cosineSimilarity(encoding, beta, valueRange) {
  const similarityOf = {
    "one-hot": () => (i, j) => Number(i === j),
    continuous: () => (i, j) => Math.sign(scaled(i, "symmetric") * scaled(j, "symmetric")),
    rff: () => fourierSimilarity(beta, valueRange),
  }[encoding]();
  return tabulate(VALUES * VALUES, (at) => similarityOf(at >> 8, at & 255));
}

function similarityProfile(similarity) {
  return tabulate(VALUES, (distance) => {
    let sum = 0;
    for (let i = 0; i + distance < VALUES; i++) sum += similarity[i * VALUES + i + distance];
    return sum / (VALUES - distance);
  });
}

function expectedProfile(sigma, valueRange) {
  return tabulate(VALUES, (value) => {
    return Math.exp(-2 * (Math.PI * sigma * (scaled(value, valueRange) - scaled(0, valueRange))) ** 2);
  });
}

function halfWidth(profile) {
  const distance = profile.findIndex((similarity) => similarity < 0.5);
  return distance < 0 ? null : distance;
}

// The squared singular values of rows of equal length are the eigenvalues of their similarity matrix S, up to scale.
// Reversing the order of the values leaves S unchanged, so S splits into its even and its odd half: two half-size
// problems. S = [[A, B], [JBJ, JAJ]] with J the reversal has the eigenvalues of A + BJ and of A - BJ.
function rankAtEnergy(similarity, energy = 0.99) {
  const half = VALUES / 2;
  const power = [1, -1].flatMap((parity) => {
    const rows = Array.from({ length: half }, (_, i) => tabulate(half, (j) => {
      return similarity[i * VALUES + j] + parity * similarity[i * VALUES + VALUES - 1 - j];
    }));
    return eigenvalues(...tridiagonal(rows));
  }).sort((a, b) => b - a);
  const total = power.reduce((sum, p) => sum + p, 0);
  let sum = 0;
  return power.findIndex((p) => (sum += p) / total >= energy) + 1;
}

// Householder reflections of a symmetric matrix, in its lower triangle: the diagonal and the off-diagonal that remain.
function tridiagonal(a) {
  const n = a.length;
  const [diagonal, off, v, w] = Array.from({ length: 4 }, () => new Float64Array(n));
  for (let last = n - 1; last > 0; last--) {
    const row = a[last];
    let squares = 0;
    for (let j = 0; j < last; j++) squares += row[j] * row[j];
    diagonal[last] = row[last];
    const edge = row[last - 1], norm = Math.sqrt(squares);
    off[last] = edge > 0 ? -norm : norm;
    if (squares === edge * edge) { off[last] = edge; continue; }
    v.set(row.subarray(0, last));
    v[last - 1] -= off[last];
    const scale = 1 / (squares - edge * off[last]); // 2 / |v|^2
    w.fill(0, 0, last);
    for (let i = 0; i < last; i++) {
      const ai = a[i], vi = v[i];
      let sum = ai[i] * vi;
      for (let j = 0; j < i; j++) {
        sum += ai[j] * v[j];
        w[j] += ai[j] * vi;
      }
      w[i] += sum;
    }
    let overlap = 0;
    for (let i = 0; i < last; i++) overlap += w[i] * v[i];
    for (let i = 0; i < last; i++) w[i] = scale * (w[i] - 0.5 * scale * overlap * v[i]);
    for (let i = 0; i < last; i++) {
      const ai = a[i], vi = v[i], wi = w[i];
      for (let j = 0; j <= i; j++) ai[j] -= vi * w[j] + wi * v[j];
    }
  }
  diagonal[0] = a[0][0];
  return [diagonal, off.subarray(1)];
}

// The eigenvalues of a symmetric tridiagonal matrix by implicit QL steps with Wilkinson's shift.
function eigenvalues(diagonal, off) {
  const d = Array.from(diagonal), e = [...off, 0], n = d.length;
  const small = Number.EPSILON * Math.max(...d.map(Math.abs), ...e.map(Math.abs));
  for (let first = 0; first < n; first++) {
    for (;;) {
      let end = first;
      while (end < n - 1 && Math.abs(e[end]) > small) end++;
      if (end === first) break;
      const half = (d[first + 1] - d[first]) / (2 * e[first]);
      let g = d[end] - d[first] + e[first] / (half + (half < 0 ? -1 : 1) * Math.sqrt(half * half + 1));
      let sine = 1, cosine = 1, shift = 0;
      for (let i = end - 1; i >= first; i--) {
        const f = sine * e[i], b = cosine * e[i], r = Math.sqrt(f * f + g * g);
        e[i + 1] = r;
        if (r === 0) { sine = 0; cosine = 1; } else { sine = f / r; cosine = g / r; }
        g = d[i + 1] - shift;
        const t = (d[i] - g) * sine + 2 * cosine * b;
        shift = sine * t;
        d[i + 1] = g + shift;
        g = cosine * t - b;
      }
      d[first] -= shift;
      e[first] = g;
      e[end] = 0;
    }
  }
  return d;
}

const minus = (text) => text.replace("-", "−");

// The pictures of single features: a caption and the feature's value for each pixel value.
function picturedFeatures(encoding, beta, valueRange) {
  const feature = (caption, of) => [caption, tabulate(VALUES, of)];
  if (encoding === "continuous") return [feature("p", (value) => scaled(value, "symmetric"))];
  if (encoding === "one-hot") {
    return [48, 80, 112, 144, 176, 208].map((shown) => feature(`value ${shown}`, (value) => Number(value === shown)));
  }
  const waves = { sin: Math.sin, cos: Math.cos };
  return beta.slice(0, 3).flatMap((b) => Object.entries(waves).map(([name, wave]) => {
    const phase = (value) => 2 * Math.PI * scaled(value, valueRange) * b;
    return feature(minus(`${name}, β = ${b.toFixed(3)}`), (value) => wave(phase(value)));
  }));
}

function measure({ encoding, sigma, k, seed, valueRange }) {
  const beta = encoding === "rff" ? drawFrequencies(sigma, k, seed) : [];
  const similarity = cosineSimilarity(encoding, beta, valueRange);
  const profile = similarityProfile(similarity);
  return {
    similarity,
    profile,
    expected: encoding === "rff" ? expectedProfile(sigma, valueRange) : null,
    rank: rankAtEnergy(similarity),
    halfWidth: halfWidth(profile),
    pictured: picturedFeatures(encoding, beta, valueRange),
  };
}

function describe({ rank, halfWidth }) {
  const width = { null: "nowhere below 1/2", 1: "1 level" }[halfWidth] ?? `${halfWidth} levels`;
  return `Rank at 99 % energy: ${rank} of ${VALUES}. Half-width: ${width}.`;
}
