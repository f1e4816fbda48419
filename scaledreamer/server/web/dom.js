// Elements: found by their id, and made.
export const $ = (id) => document.getElementById(id);

export function node(name, members = {}, ...children) {
  const element = Object.assign(document.createElement(name), members);
  element.append(...children);
  return element;
}
