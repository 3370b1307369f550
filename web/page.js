// Helpers for the page. Text is always set as text, never as HTML.

export function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function show(id, text) {
  document.getElementById(id).textContent = text;
}

/**
 * Run a form's action on submit, and show its error in the form.
 *
 * @param {string} id
 * @param {(fields: any) => unknown} action
 */
export function onSubmit(id, action) {
  /** @type {HTMLFormElement} */
  const form = document.querySelector(`#${id}`);
  const error = form.querySelector(".error");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const fields = Object.fromEntries(new FormData(form));
    if (error) error.textContent = "";
    try {
      await action(fields);
      form.reset();
    } catch (failure) {
      if (error) error.textContent = failure.message;
      else show("status", failure.message);
    }
  });
}
