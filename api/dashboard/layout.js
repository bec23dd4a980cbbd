// Where the steps of a graph stand: layers from top to bottom, each step a layer below the lowest of those it needs.
//
// Layered drawing after Sugiyama, Tagawa and Toda (1981), as in reports: edges over several layers go through places
// of their own, layers are ordered by the mean place of their neighbours, and places are then drawn towards those
// neighbours as far as the order allows. Decides only; `graph.js` draws.

export const NODE_WIDTH = 194;
export const NODE_HEIGHT = 50;
export const GAP_Y = 34;
// Room that an edge takes in a layer which it only passes.
const PASS_WIDTH = 14;
const GAP_X = 18;
const MARGIN = 6;
// How often layers are put in a better order; more changes little.
const SWEEPS = 6;

/**
 * The places of steps, given as lists of the steps that each needs. Gives `{ places, width, height }`; the first
 * places are those of the steps, in their order, the others those of edges that pass. A place has `x`, `y`, `width`,
 * `below` (places it is joined with) and `step` (its number or `null`).
 */
export function layout(needs) {
  const depth = depths(needs);
  const places = depth.map((layer, step) => ({ step, layer, above: [], below: [], x: 0, y: 0, width: NODE_WIDTH }));
  needs.forEach((list, to) => [...new Set(list)].sort((a, b) => a - b).forEach((from) => join(places, from, to)));
  const layers = Array.from({ length: Math.max(0, ...depth.map((d) => d + 1)) }, () => []);
  places.forEach((place, at) => layers[place.layer].push(at));
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) order(places, layers, sweep % 2 === 0);
  const width = arrange(places, layers);
  for (const place of places) place.y = MARGIN + place.layer * (NODE_HEIGHT + GAP_Y);
  return { places, width, height: MARGIN * 2 + layers.length * (NODE_HEIGHT + GAP_Y) - GAP_Y };
}

/** How far below the top each step is. A plan has no circles, so so many passes as it has steps suffice. */
function depths(needs) {
  const depth = needs.map(() => 0);
  for (let pass = 0; pass < needs.length; pass += 1) {
    let changed = false;
    needs.forEach((list, at) => {
      const lowest = Math.max(0, ...list.map((need) => depth[need] + 1));
      if (lowest > depth[at]) {
        depth[at] = lowest;
        changed = true;
      }
    });
    if (!changed) break;
  }
  return depth;
}

/** Joins two steps, through a place in each layer between. */
function join(places, from, to) {
  let above = from;
  for (let layer = places[from].layer + 1; layer < places[to].layer; layer += 1) {
    const at = places.length;
    places.push({ step: null, layer, above: [above], below: [], x: 0, y: 0, width: PASS_WIDTH });
    places[above].below.push(at);
    above = at;
  }
  places[above].below.push(to);
  places[to].above.push(above);
}

/** Orders layers by the mean place of the neighbours above (or below); ties stay as they are. */
function order(places, layers, downwards) {
  const position = new Array(places.length).fill(0);
  for (const layer of layers) layer.forEach((place, at) => { position[place] = at; });
  for (const at of passes(layers.length, downwards)) {
    const mean = (place) => {
      const neighbours = downwards ? places[place].above : places[place].below;
      return neighbours.length === 0 ? position[place] : average(neighbours.map((other) => position[other]));
    };
    const means = new Map(layers[at].map((place) => [place, mean(place)]));
    layers[at].sort((a, b) => means.get(a) - means.get(b));
    layers[at].forEach((place, index) => { position[place] = index; });
  }
}

/** Gives places their x; returns the width of the drawing. */
function arrange(places, layers) {
  for (const layer of layers) {
    let x = 0;
    for (const at of layer) {
      places[at].x = x;
      x += places[at].width + GAP_X;
    }
  }
  for (let sweep = 0; sweep < SWEEPS * 2; sweep += 1) {
    const downwards = sweep % 2 === 0;
    for (const at of passes(layers.length, downwards)) drawNear(places, layers[at], downwards);
  }
  const left = Math.min(0, ...places.map((place) => place.x));
  const least = places.length === 0 ? 0 : Math.min(...places.map((place) => place.x));
  let right = 0;
  for (const place of places) {
    place.x += MARGIN - (left < 0 ? left : least);
    right = Math.max(right, place.x + place.width);
  }
  return right + MARGIN;
}

/** Moves the places of a layer to the mean of their neighbours, keeping their order and their distance. */
function drawNear(places, layer, downwards) {
  const wish = layer.map((at) => {
    const neighbours = downwards ? places[at].above : places[at].below;
    if (neighbours.length === 0) return places[at].x;
    return average(neighbours.map((other) => places[other].x + places[other].width / 2)) - places[at].width / 2;
  });
  // Pushed to the right from the left, and to the left from the right; the mean of both keeps the distance.
  const fromLeft = [...wish];
  for (let at = 1; at < layer.length; at += 1) {
    fromLeft[at] = Math.max(fromLeft[at], fromLeft[at - 1] + places[layer[at - 1]].width + GAP_X);
  }
  const fromRight = [...wish];
  for (let at = layer.length - 2; at >= 0; at -= 1) {
    fromRight[at] = Math.min(fromRight[at], fromRight[at + 1] - places[layer[at]].width - GAP_X);
  }
  layer.forEach((place, at) => { places[place].x = (fromLeft[at] + fromRight[at]) / 2; });
}

function* passes(count, forwards) {
  for (let at = 0; at < count; at += 1) yield forwards ? at : count - 1 - at;
}

function average(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
