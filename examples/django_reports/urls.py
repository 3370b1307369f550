from django.contrib.auth.views import LoginView
from django.urls import path

from examples.django_reports import views

urlpatterns = [
    path("", views.page),
    path("centrifuge.js", views.sdk),
    path("reports", views.reports),
    path("realtime/connect", views.connect),
    path("accounts/login/", LoginView.as_view()),
    path("accounts/logout/", views.SignOut.as_view()),
    path("accounts/sign-up/", views.sign_up),
]
