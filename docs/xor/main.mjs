/* Puts the interactive picture where a page has a place for it; on other pages nothing more is loaded. */

const place = document.querySelector(".xor");
if (place) {
  const { show } = await import("./view.mjs");
  show(place);
}
