// Which page a hash stands for: `#/runs/run-1/tasks?status=failed` has the path `runs`, `run-1`, `tasks` and a query.
//
// A page is a function of its route that gives `{ title, element, leave?, turn? }`. `turn(route)` takes another route
// of the same page without building it again, and says whether it has.

/** The route of a hash. */
export function routeOf(hash) {
  const [path, query = ''] = hash.replace(/^#\/?/, '').split('?', 2);
  const parts = path.split('/').filter((piece) => piece !== '').map(decode);
  return { parts, query: new URLSearchParams(query) };
}

function decode(piece) {
  try {
    return decodeURIComponent(piece);
  } catch {
    return piece;
  }
}

/** The hash of a path and a query; empty values are left out. */
export function hashOf(parts, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== '' && value !== null && value !== undefined);
  const text = new URLSearchParams(given).toString();
  return `#/${parts.map(encodeURIComponent).join('/')}${text === '' ? '' : `?${text}`}`;
}

/** Replaces the query of the address without a new entry in the history, and without drawing the page again. */
export function keepQuery(query) {
  const { parts } = routeOf(location.hash);
  history.replaceState(history.state, '', hashOf(parts, query));
}

/** Goes to another page. */
export function go(hash) {
  location.hash = hash;
}

/**
 * Shows the page of the address, now and whenever it changes. `find(route)` gives the page's function; `shown(route)`
 * hears of each page. Returns `{ leave, rebuild }`: `leave` ends the present page, `rebuild` builds it again.
 */
export function startRouter(main, find, shown) {
  let page = null;

  const show = (first) => {
    // The link to the page's start and other anchors aren't routes.
    if (location.hash !== '' && !location.hash.startsWith('#/')) return;
    const route = routeOf(location.hash);
    if (!(page?.turn?.(route) ?? false)) {
      page?.leave?.();
      page = find(route)(route);
      main.replaceChildren(page.element);
      if (!first) {
        window.scrollTo(0, 0);
        focusHeading(main);
      }
    }
    document.title = `${page.title} · Gristmill`;
    // Which page this is, for whoever drives a browser.
    main.dataset.route = location.hash;
    shown(route);
  };
  window.addEventListener('hashchange', () => show(false));
  show(true);
  const leave = () => {
    page?.leave?.();
    page = null;
  };
  return {
    leave,
    rebuild() {
      leave();
      show(true);
    },
  };
}

/** Whoever hears the page is told where they are. */
function focusHeading(main) {
  const heading = main.querySelector('h1');
  if (heading === null) return;
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
}
