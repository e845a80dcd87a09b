import { registry } from "@web/core/registry";
import { stepUtils } from "@web_tour/tour_utils";

const openMenu = (name) => [
    stepUtils.showAppsMenuItem(),
    {
        trigger: ".o_app[data-menu-xmlid='chatbot_sync.menu_chatbot_root']",
        run: "click",
    },
    {
        trigger: `[data-menu-xmlid='chatbot_sync.menu_chatbot_${name}']`,
        run: "click",
    },
];

const choose = (field, text) => [
    { trigger: `.o_field_widget[name=${field}] input`, run: `edit ${text}` },
    { trigger: `.o-autocomplete--dropdown-item > a:contains(/^${text}$/)`, run: "click" },
];

// Connects contacts to a chatbot: what they are, a look at what would be found, and that is it.
registry.category("web_tour.tours").add("chatbot_knowledge_connect_tour", {
    steps: () => [
        ...openMenu("knowledge"),
        { trigger: ".o_list_button_add", run: "click" },
        ...choose("chatbot_id", "Tour chatbot"),
        ...choose("model_id", "Contact"),
        { trigger: ".o_field_widget[name=title_field_id] input:value(/Name/)" },
        { trigger: ".o_field_widget[name=field_ids] .o_data_row:contains(Notes)" },
        { trigger: ".o_form_button_save", run: "click" },
        { trigger: ".o_form_saved" },
        { trigger: "button[name=action_preview]", run: "click" },
        { trigger: ".modal .o_field_widget[name=passages]:contains(They make wooden chairs.)" },
        { trigger: ".modal footer .btn-secondary, .modal .modal-footer .btn-secondary", run: "click" },
        { trigger: "body:not(:has(.modal)) button[name=action_connect]", run: "click" },
        { trigger: "button[name=action_disconnect]" },
    ],
});

// Asks for what is in them.
registry.category("web_tour.tours").add("chatbot_knowledge_ask_tour", {
    steps: () => [
        ...openMenu("chatbots"),
        { trigger: ".o_kanban_record:contains(Tour chatbot) button[name=action_ask]", run: "click" },
        { trigger: ".modal .o_field_widget[name=question] input", run: "edit Who makes chairs of wood?" },
        { trigger: ".modal button[name=action_ask]", run: "click" },
        { trigger: ".modal mark:contains(chairs)" },
        { trigger: ".modal a[href^='/odoo/res.partner/']:contains(Chair Factory)" },
        { trigger: ".modal button[name=action_close]", run: "click" },
        { trigger: "body:not(:has(.modal))" },
    ],
});
